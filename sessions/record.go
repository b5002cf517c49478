package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"posthorn/store"
)

// Where sessions stand in the store: the record by ID, and the IDs of each account.
const (
	idPrefix = "session/id/" // + ID
	ofPrefix = "session/of/" // + account ID + "/" + ID: nothing
)

// record is a session in the store.
type record struct {
	Session
	// Stamp is accounts.Store.PasswordStamp at the time of signing in.
	Stamp string `json:"stamp"`
}

func (r *record) index() string { return ofPrefix + r.Account + "/" + r.ID }

// recordValue is the one value of a session of scs, a *record.
const recordValue = "record"

// codec makes a record of scs's values, and the other way round.
type codec struct{}

// Encode implements scs.Codec.
func (codec) Encode(_ time.Time, values map[string]any) ([]byte, error) {
	rec, ok := values[recordValue].(*record)
	if !ok {
		return nil, errors.New("sessions: nobody has signed in")
	}
	return json.Marshal(rec)
}

// Decode implements scs.Codec.
func (codec) Decode(b []byte) (time.Time, map[string]any, error) {
	rec, err := decode(b)
	if err != nil {
		return time.Time{}, nil, err
	}
	return rec.Expires, map[string]any{recordValue: rec}, nil
}

func decode(b []byte) (*record, error) {
	rec := new(record)
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("decode web session: %w", err)
	}
	return rec, nil
}

// idOf names the session of a token.
func idOf(token string) string { return store.NameOf([]byte(token)) }

// tokenStore is the store as scs sees it: by token.
type tokenStore Manager

// FindCtx implements scs.CtxStore.
func (t *tokenStore) FindCtx(ctx context.Context, token string) (b []byte, found bool, err error) {
	b, err = t.Store.Get(ctx, idPrefix+idOf(token))
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return b, err == nil, err
}

// CommitCtx implements scs.CtxStore. It is called for new sessions only.
func (t *tokenStore) CommitCtx(ctx context.Context, token string, b []byte, _ time.Time) error {
	rec, err := decode(b)
	if err != nil {
		return err
	}
	rec.ID = idOf(token)
	return t.Store.Update(ctx, func(tx store.Tx) error {
		if err := makeRoom(ctx, tx, rec.Account); err != nil {
			return err
		}
		if err := tx.Put(rec.index(), nil); err != nil {
			return err
		}
		return put(tx, rec)
	})
}

// DeleteCtx implements scs.CtxStore.
func (t *tokenStore) DeleteCtx(ctx context.Context, token string) error {
	if token == "" {
		return nil
	}
	_, err := (*Manager)(t).delete(ctx, []string{idOf(token)})
	return err
}

// Find, Commit and Delete are those of scs.Store, which scs does not call when
// there are those with a context.
func (t *tokenStore) Find(token string) ([]byte, bool, error) {
	return t.FindCtx(context.Background(), token)
}
func (t *tokenStore) Delete(token string) error { return t.DeleteCtx(context.Background(), token) }
func (t *tokenStore) Commit(token string, b []byte, expiry time.Time) error {
	return t.CommitCtx(context.Background(), token, b, expiry)
}

func put(tx store.Tx, rec *record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return tx.Put(idPrefix+rec.ID, b)
}

// maxID is longer than any ID.
const maxID = 64

func get(ctx context.Context, r store.Reader, id string) (*record, error) {
	if id == "" || len(id) > maxID {
		return nil, ErrNoSession
	}
	b, err := r.Get(ctx, idPrefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoSession
	}
	if err != nil {
		return nil, err
	}
	return decode(b)
}

func remove(tx store.Tx, rec *record) error {
	if err := tx.Delete(rec.index()); err != nil {
		return err
	}
	return tx.Delete(idPrefix + rec.ID)
}

// records returns those of an account.
func records(ctx context.Context, r store.Reader, account string) (all []*record, err error) {
	prefix := ofPrefix + account + "/"
	for item, err := range r.Scan(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		rec, err := get(ctx, r, item.Key[len(prefix):])
		if errors.Is(err, ErrNoSession) { // between the two reads
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, rec)
	}
	return all, nil
}

// makeRoom removes those of an account's sessions that have been idle longest, when
// there is no room for one more.
func makeRoom(ctx context.Context, tx store.Tx, account string) error {
	all, err := records(ctx, tx, account)
	if err != nil || len(all) < maxPerAccount {
		return err
	}
	slices.SortFunc(all, func(a, b *record) int { return a.LastSeen.Compare(b.LastSeen) })
	for _, rec := range all[:len(all)-maxPerAccount+1] {
		if err := remove(tx, rec); err != nil {
			return err
		}
	}
	return nil
}

// seen notes that a session was used. One that has ended meanwhile stays so.
func (m *Manager) seen(ctx context.Context, id string, at time.Time) error {
	return m.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := get(ctx, tx, id)
		if errors.Is(err, ErrNoSession) {
			return nil
		}
		if err != nil {
			return err
		}
		rec.LastSeen = at
		return put(tx, rec)
	})
}

// delete removes sessions, and returns how many of them there were.
func (m *Manager) delete(ctx context.Context, ids []string) (n int, err error) {
	for batch := range slices.Chunk(ids, 200) {
		gone := 0
		err := m.Store.Update(ctx, func(tx store.Tx) error {
			gone = 0
			for _, id := range batch {
				rec, err := get(ctx, tx, id)
				if errors.Is(err, ErrNoSession) {
					continue
				}
				if err == nil {
					err = remove(tx, rec)
				}
				if err != nil {
					return err
				}
				gone++
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += gone
	}
	return n, nil
}
