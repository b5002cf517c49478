package splice

import "time"

// SetLinger sets how long a way that is quiet keeps its goroutine.
func (l *Link) SetLinger(d time.Duration) { l.linger = d }
