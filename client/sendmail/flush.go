package sendmail

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Flush tries to send everything that waits, the oldest first, and tells report of
// each message that it has tried. It stops when the gateway cannot be reached, since
// the others would fare the same. Of several at once one sends, and the others wait;
// they leave out what has been tried since they came. The error is about the queue
// itself, or what it cannot read; not about messages that were not sent.
func (q *Queue) Flush(ctx context.Context, s *Sender, report func(*Entry, *Outcome)) error {
	came := time.Now()
	return q.locked(ctx, func() error {
		q.sweep()
		entries, err := q.List()
		if err != nil {
			return err
		}
		var broken []error
		for _, e := range entries {
			switch {
			case ctx.Err() != nil:
				return errors.Join(append(broken, &Error{TempFail, context.Cause(ctx)})...)
			case e.Broken != "":
				broken = append(broken, &Error{IOErr, fmt.Errorf("%s: %s", e.ID, e.Broken)})
				continue
			case len(e.Recipients) == 0 || e.Tried.After(came):
				continue
			}
			o, err := q.try(ctx, s, e)
			if err != nil {
				broken = append(broken, &Error{IOErr, fmt.Errorf("%s: %w", e.ID, err)})
			}
			if o == nil {
				continue
			}
			report(e, o)
			if o.Unreachable {
				break
			}
		}
		return errors.Join(broken...)
	})
}

// try sends one entry, and notes what became of it. Without an Outcome nothing was
// sent.
func (q *Queue) try(ctx context.Context, s *Sender, e *Entry) (*Outcome, error) {
	m, f, err := q.message(e)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// If it cannot be noted who has had the message, nobody must get it.
	if err := q.reserve(e); err != nil {
		return nil, err
	}
	o := s.Send(ctx, m)
	q.step()
	e.note(o)
	if len(e.Recipients) == 0 && len(e.Failed) == 0 {
		return o, q.forget(e.ID)
	}
	return o, q.commit(e)
}

// note takes an outcome into the entry.
func (e *Entry) note(o *Outcome) {
	e.Tried = time.Now()
	e.Attempts++
	e.Failed = append(e.Failed, o.Refused...)
	e.Recipients, e.Reason = nil, ""
	for _, f := range o.Deferred {
		e.Recipients = append(e.Recipients, f.Recipient)
		e.Reason = f.Reason
	}
}
