package sendmail

// OnStep calls f after each change that q makes on disk, and after each message
// that it has sent.
func (q *Queue) OnStep(f func()) { q.step = f }
