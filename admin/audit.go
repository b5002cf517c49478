package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"posthorn/store"
)

// Event is one entry of the audit trail: who did what to whom. It never holds
// a secret.
type Event struct {
	ID      string    `json:"id,omitempty"` // of the entry; later ones sort behind earlier ones
	Time    time.Time `json:"time"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`            // such as "key add"
	Account string    `json:"account,omitempty"` // ID
	Address string    `json:"address,omitempty"` // the account's, or the one in question
	Key     string    `json:"key,omitempty"`     // fingerprint
	Detail  string    `json:"detail,omitempty"`
	Error   string    `json:"error,omitempty"` // why it failed, or errUnfinished; empty: it was done
	From    string    `json:"from,omitempty"`  // the actor's address
	// Before and After are what has changed, of what people may see.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// auditPrefix is where the trail stands in the store; what follows sorts by
// time.
const auditPrefix = "audit/"

const (
	auditKeep  = 10_000
	auditSlack = 256 // so that trimming, which reads all of the trail, is rare
	auditTime  = "20060102T150405.000000000Z"
)

// errUnfinished is what the trail says of an operation until it is over: of one that
// a crash interrupted nobody knows whether it was done.
const errUnfinished = "not finished"

// ownMark ends the keys of what others than operators did for themselves. They may
// have half of the trail, lest one of them pushes out what operators did.
const ownMark = "-own"

// do records ev, acts, and brings the record up to date. An operation that cannot be
// recorded is not carried out.
func (s *Service) do(ctx context.Context, who Actor, ev *Event, act func() error) error {
	ev.Time, ev.Actor, ev.From = time.Now().UTC(), who.Name, who.From
	key := auditPrefix + ev.Time.Format(auditTime) + "-" + rand.Text()[:8]
	if !who.Operator && who.Scope == 0 {
		key += ownMark
	}
	begun := *ev
	begun.Error = errUnfinished
	if err := s.record(ctx, key, begun); err != nil {
		return fmt.Errorf("%s: record in the audit trail: %w", ev.Action, err)
	}
	err := act()
	if err != nil {
		ev.Error, ev.Before, ev.After = err.Error(), nil, nil
		err = fmt.Errorf("%s: %w", ev.Action, err)
	}
	// The request may be what ended; its outcome is recorded all the same.
	ctx = context.WithoutCancel(ctx)
	if err := s.record(ctx, key, *ev); err != nil {
		s.Log.Error().Err(err).Msg("audit record could not be completed")
	}
	s.logEvent(*ev, err)
	s.trim(ctx)
	return err
}

func (s *Service) record(ctx context.Context, key string, ev Event) error {
	b, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	return s.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(key, b) })
}

func (s *Service) logEvent(ev Event, err error) {
	l := s.Log.Info()
	switch {
	case err != nil && s.Privacy: // the text may name an address
		l = s.Log.Warn().Str("error", problemOf(err).Code)
	case err != nil:
		l = s.Log.Warn().Err(err)
	}
	l.Str("actor", ev.Actor).Str("action", ev.Action).Str("account", ev.Account)
	if ev.Address != "" && !s.Privacy {
		l.Str("address", ev.Address)
	}
	if ev.From != "" {
		l.Str("from", ev.From)
	}
	if ev.Key != "" {
		l.Str("key", ev.Key)
	}
	if ev.Detail != "" && !s.Privacy {
		l.Str("detail", ev.Detail)
	}
	l.Msg("administration")
}

// trim deletes the oldest records when there are too many.
func (s *Service) trim(ctx context.Context) {
	keep := s.AuditKeep
	if keep == 0 {
		keep = auditKeep
	}
	s.auditMu.Lock()
	defer s.auditMu.Unlock()
	if s.auditCount++; s.auditCount > 1 && s.auditCount <= keep+auditSlack {
		return
	}
	keys, err := s.auditKeys(ctx)
	if err != nil {
		s.Log.Error().Err(err).Msg("audit trail could not be read")
		return
	}
	old := oldest(keys, keep)
	if err := s.deleteAll(ctx, old); err != nil {
		s.Log.Error().Err(err).Msg("audit trail could not be shortened")
		return
	}
	s.auditCount = max(len(keys)-len(old), 1)
}

// oldest returns those of keys, which are in order, that go when keep may stay.
func oldest(keys []string, keep int) (gone []string) {
	excess := len(keys) - keep
	if excess <= 0 {
		return nil
	}
	isOwn := func(key string) bool { return strings.HasSuffix(key, ownMark) }
	own := 0
	for _, k := range keys {
		if isOwn(k) {
			own++
		}
	}
	tooMany := min(excess, max(0, own-keep/2)) // of these the oldest go first
	excess -= tooMany
	for _, k := range keys {
		switch {
		case isOwn(k) && tooMany > 0:
			tooMany--
		case excess > 0:
			excess--
		default:
			continue
		}
		gone = append(gone, k)
	}
	return gone
}

func (s *Service) auditKeys(ctx context.Context) ([]string, error) {
	var keys []string
	for item, err := range s.Store.Scan(ctx, auditPrefix) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, item.Key)
	}
	return keys, nil
}

// deleteAll deletes keys, in transactions that every driver can hold.
func (s *Service) deleteAll(ctx context.Context, keys []string) error {
	for batch := range slices.Chunk(keys, 500) {
		err := s.Store.Update(ctx, func(tx store.Tx) error {
			for _, k := range batch {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Audit returns the last entries of the audit trail, oldest first; limit 0
// means all that are kept.
func (s *Service) Audit(ctx context.Context, who Actor, limit int) ([]Event, error) {
	events, err := s.FindAudit(ctx, who, AuditFilter{})
	if limit > 0 && len(events) > limit {
		events = events[len(events)-limit:]
	}
	return events, err
}

// AuditFilter says which entries are asked for; zero fields do not matter.
type AuditFilter struct {
	Account string    // that it concerns: an ID, or an address that an entry tells of
	Actor   string    // a part of its name
	Action  string    // what it begins with
	Since   time.Time // at this time or later
	Until   time.Time // before this time
}

func (f *AuditFilter) match(e *Event) bool {
	switch {
	case f.Account != "" && e.Account != f.Account && !slices.Contains(strings.Fields(e.Address), strings.ToLower(f.Account)):
	case !strings.Contains(e.Actor, f.Actor), !strings.HasPrefix(e.Action, f.Action):
	case e.Time.Before(f.Since), !f.Until.IsZero() && !e.Time.Before(f.Until):
	default:
		return true
	}
	return false
}

// FindAudit returns the entries that a filter lets through, oldest first.
func (s *Service) FindAudit(ctx context.Context, who Actor, f AuditFilter) ([]Event, error) {
	if err := s.operator(who, "audit"); err != nil {
		return nil, err
	}
	if isAddress(f.Account) { // of somebody who is still there: all of their addresses
		if a, err := s.Accounts.ByAddress(ctx, f.Account); err == nil {
			f.Account = a.ID
		}
	}
	events := []Event{}
	for item, err := range s.Store.Scan(ctx, auditPrefix) {
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		ev := Event{ID: strings.TrimPrefix(item.Key, auditPrefix)}
		if err := json.Unmarshal(item.Value, &ev); err != nil {
			return nil, fmt.Errorf("audit: record %s: %w", item.Key, err)
		}
		if f.match(&ev) {
			events = append(events, ev)
		}
	}
	return events, nil
}
