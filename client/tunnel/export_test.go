package tunnel

// At says whether a place in a stream is between two responses.
type At struct{ IMAP, SMTP, BYE, Quit bool }

// GiveTo makes the listener another user's.
func (l *Listener) GiveTo(uid int) { l.owner = uid }

// Boundaries passes a stream in parts, and returns how it is after each.
func Boundaries(stream string, part int) []At {
	i, s := new(imapBoundary), new(smtpBoundary)
	all := []At{{i.here(), s.here(), i.parted(), s.parted()}}
	for b := []byte(stream); len(b) > 0; {
		n := min(part, len(b))
		i.pass(b[:n])
		s.pass(b[:n])
		all = append(all, At{i.here(), s.here(), i.parted(), s.parted()})
		b = b[n:]
	}
	return all
}
