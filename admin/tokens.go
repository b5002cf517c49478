package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"posthorn/store"
)

var (
	// ErrNoToken says that there is no token with an ID.
	ErrNoToken = errors.New("no such token")
	// errBadToken says that a text is no token that counts: unknown, removed
	// or expired.
	errBadToken = errors.New("unknown or expired token")
)

// Token is what a bearer token stands for. Its text is shown once, when it is
// made, and kept as a hash.
type Token struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Scope    Scope     `json:"scope" enum:"read,accounts,all"`
	By       string    `json:"by"` // the actor that has made it
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	LastUsed time.Time `json:"last_used,omitzero"` // to a minute
}

// NewToken is a request for a token.
type NewToken struct {
	Name    string    `json:"name"`
	Scope   Scope     `json:"scope" enum:"read,accounts,all"`
	Expires time.Time `json:"expires,omitzero" doc:"Absent: after 90 days, or when the token expires that makes it. At most two years from now, and not after that token."`
}

// CreatedToken is a new token. This is the only time that anybody sees its text.
type CreatedToken struct {
	Token
	Text string `json:"token" doc:"For Authorization: Bearer. It can be read nowhere else."`
}

// How long tokens are good for.
const (
	tokenLife    = 90 * 24 * time.Hour
	maxTokenLife = 2 * 366 * 24 * time.Hour
	maxTokens    = 1000
)

// tokenPrefix is where tokens stand: tokenPrefix + ID.
const tokenPrefix = "token/"

// tokenMark begins every token's text, so that people and scanners of leaked
// secrets know what it is.
const tokenMark = "posthorn_"

// tokenRecord is a token as the store has it.
type tokenRecord struct {
	Token
	// Maker is the ID of the token that made this one, with which it ends; empty:
	// no token did.
	Maker string `json:"maker,omitempty"`
	// Hash is the SHA-256 of the text, which is as long as random keys are:
	// nothing is gained by a slow one.
	Hash []byte `json:"hash"`
}

// AddToken makes a token. One that a token makes expires with that one at the
// latest, and is removed with it: whoever has got hold of a token gains nothing
// that lasts.
func (s *Service) AddToken(ctx context.Context, who Actor, req NewToken) (*CreatedToken, error) {
	const action = "token add"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	if err := checkName(req.Name); err != nil {
		return nil, err
	}
	if req.Scope < ScopeRead || req.Scope > ScopeAll {
		return nil, &InvalidError{"scope", "must be read, accounts or all"}
	}
	at := now()
	expires, err := req.end(at, who.Token)
	if err != nil {
		return nil, err
	}
	t := &CreatedToken{Token: Token{
		ID: strings.ToLower(rand.Text()[:10]), Name: req.Name, Scope: req.Scope, By: who.Name, Created: at, Expires: expires,
	}}
	t.Text = tokenMark + t.ID + "_" + rand.Text()
	ev := Event{Action: action, Detail: fmt.Sprintf("token %s (%s)", t.ID, t.Name)}
	err = s.do(ctx, who, &ev, func() error {
		ev.after(t.Token)
		hash := sha256.Sum256([]byte(t.Text))
		rec := &tokenRecord{Token: t.Token, Hash: hash[:]}
		if who.Token != nil {
			rec.Maker = who.Token.ID
		}
		return s.Store.Update(ctx, func(tx store.Tx) error { return addToken(ctx, tx, rec) })
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// end says when a token expires that is made at a time, by a token unless that is nil.
func (n *NewToken) end(at time.Time, maker *Token) (time.Time, error) {
	end := n.Expires
	if end.IsZero() {
		end = at.Add(tokenLife)
		if maker != nil && end.After(maker.Expires) {
			end = maker.Expires
		}
	}
	switch err := checkExpires(end); {
	case err != nil:
		return end, err
	case end.After(at.Add(maxTokenLife)):
		return end, &InvalidError{"expires", "is more than two years from now"}
	case maker != nil && end.After(maker.Expires):
		return end, &InvalidError{"expires", "is later than that of the token that makes it"}
	}
	return end.UTC(), nil
}

func addToken(ctx context.Context, tx store.Tx, rec *tokenRecord) error {
	all, err := tokens(ctx, tx)
	switch {
	case err != nil:
		return err
	case len(all) >= maxTokens:
		return &InvalidError{"token", "there are too many: remove some"}
	}
	if rec.Maker != "" { // it may have been removed since it was shown
		if _, err := getToken(ctx, tx, rec.Maker); err != nil {
			return err
		}
	}
	return putToken(tx, rec)
}

// tokens returns all, in no order.
func tokens(ctx context.Context, r store.Reader) (all []*tokenRecord, err error) {
	for item, err := range r.Scan(ctx, tokenPrefix) {
		if err != nil {
			return nil, err
		}
		rec, err := decodeToken(item.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, rec)
	}
	return all, nil
}

// ListTokens returns all tokens, oldest first; those that have expired among
// them, until they are removed.
func (s *Service) ListTokens(ctx context.Context, who Actor) ([]Token, error) {
	const action = "token list"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	recs, err := tokens(ctx, s.Store)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	all := make([]Token, 0, len(recs))
	for _, rec := range recs {
		all = append(all, rec.Token)
	}
	slices.SortFunc(all, func(a, b Token) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// ShowToken describes one.
func (s *Service) ShowToken(ctx context.Context, who Actor, id string) (*Token, error) {
	const action = "token list"
	if err := s.operator(who, action); err != nil {
		return nil, err
	}
	rec, err := getToken(ctx, s.Store, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return &rec.Token, nil
}

// RemoveToken revokes a token, and those that were made with it. They do not count
// from the next request on, and a backup that one is getting breaks off.
func (s *Service) RemoveToken(ctx context.Context, who Actor, id string) error {
	const action = "token remove"
	if err := s.operator(who, action); err != nil {
		return err
	}
	rec, err := getToken(ctx, s.Store, id)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	ev := Event{Action: action, Detail: fmt.Sprintf("token %s (%s)", rec.ID, rec.Name)}
	return s.do(ctx, who, &ev, func() error {
		made := 0
		err := s.Store.Update(ctx, func(tx store.Tx) (err error) {
			made, err = removeToken(ctx, tx, id)
			return err
		})
		ev.before(rec.Token)
		if made > 0 {
			ev.Detail += fmt.Sprintf(", tokens made with it: %d", made)
		}
		return err
	})
}

// removeToken removes a token with those that it made, and those that these made, and
// returns how many they were.
func removeToken(ctx context.Context, tx store.Tx, id string) (made int, err error) {
	all, err := tokens(ctx, tx)
	if err != nil {
		return 0, err
	}
	gone := []string{id}
	for i := 0; i < len(gone); i++ {
		for _, rec := range all {
			if rec.Maker == gone[i] {
				gone = append(gone, rec.ID)
			}
		}
		if err := tx.Delete(tokenPrefix + gone[i]); err != nil {
			return 0, err
		}
	}
	return len(gone) - 1, nil
}

// byToken returns whom a token's text stands for (errBadToken).
func (s *Service) byToken(ctx context.Context, text string) (Actor, error) {
	rest, marked := strings.CutPrefix(text, tokenMark)
	id, _, _ := strings.Cut(rest, "_")
	if !marked || len(text) > 200 {
		return Actor{}, errBadToken
	}
	rec, err := getToken(ctx, s.Store, id)
	if errors.Is(err, ErrNoToken) {
		return Actor{}, errBadToken
	}
	if err != nil {
		return Actor{}, err
	}
	hash := sha256.Sum256([]byte(text))
	if subtle.ConstantTimeCompare(hash[:], rec.Hash) != 1 || !time.Now().Before(rec.Expires) {
		return Actor{}, errBadToken
	}
	s.tokenUsed(ctx, rec)
	return Actor{Name: fmt.Sprintf("token %s (%s)", rec.ID, rec.Name), Scope: rec.Scope, Token: &rec.Token}, nil
}

// tokenUsed notes when a token was used, at most once a minute.
func (s *Service) tokenUsed(ctx context.Context, rec *tokenRecord) {
	at := now()
	if at.Sub(rec.LastUsed) < time.Minute {
		return
	}
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := getToken(ctx, tx, rec.ID)
		if err != nil { // removed meanwhile
			return err
		}
		rec.LastUsed = at
		return putToken(tx, rec)
	})
	if err != nil && !errors.Is(err, ErrNoToken) {
		s.Log.Warn().Err(err).Str("token", rec.ID).Msg("use of a token could not be noted")
	}
}

func getToken(ctx context.Context, r store.Reader, id string) (*tokenRecord, error) {
	if len(id) > 32 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return nil, ErrNoToken
	}
	b, err := r.Get(ctx, tokenPrefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoToken
	}
	if err != nil {
		return nil, fmt.Errorf("read a token: %w", err)
	}
	return decodeToken(b)
}

func decodeToken(b []byte) (*tokenRecord, error) {
	rec := new(tokenRecord)
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("decode a token: %w", err)
	}
	return rec, nil
}

func putToken(tx store.Tx, rec *tokenRecord) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return tx.Put(tokenPrefix+rec.ID, b)
}
