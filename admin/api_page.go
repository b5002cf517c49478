package admin

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// Page is a part of a list.
type Page[T any] struct {
	Items []T `json:"items" nullable:"false"`
	// Next is the cursor of the page that follows; empty: there is none.
	Next string `json:"next,omitempty" doc:"The cursor of the page that follows. Absent on the last one."`
	// Total is how many items the list has now.
	Total int `json:"total" doc:"How many items the list has now."`
}

// Cut is which part of a list is asked for.
type Cut struct {
	Cursor string `query:"cursor" maxLength:"4096" doc:"What next of the page before said. Items that come and go meanwhile shift nothing: each that is there all the time is told once."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many items at most."`
}

// ordered is a list in the order of its items' names, which do not change as
// long as an item is there: so a cursor is the name of the last item told.
type ordered[T any] struct {
	items []T
	name  func(T) string
	// newest turns the order around.
	newest bool
}

// stamp is a time as names have it, so that they sort by it.
func stamp(t time.Time) string { return t.UTC().Format("20060102T150405.000000000Z") }

// after is the name of the last item told; empty: none was.
func (c Cut) after() (string, error) {
	name, err := base64.RawURLEncoding.DecodeString(c.Cursor)
	if err != nil {
		return "", &InvalidError{"cursor", "is none of this list"}
	}
	return string(name), nil
}

// page cuts a page out of a list.
func (o ordered[T]) page(c Cut) (*Page[T], error) {
	after, err := c.after()
	if err != nil {
		return nil, err
	}
	compare := strings.Compare
	if o.newest {
		compare = func(a, b string) int { return strings.Compare(b, a) }
	}
	// Only what is left to tell is put in order, and named once.
	type named struct {
		name string
		item T
	}
	var rest []named
	for _, item := range o.items {
		if name := o.name(item); c.Cursor == "" || compare(name, after) > 0 {
			rest = append(rest, named{name, item})
		}
	}
	slices.SortFunc(rest, func(a, b named) int { return compare(a.name, b.name) })
	rest = rest[:min(len(rest), c.Limit+1)]
	items := make([]T, 0, len(rest))
	for _, n := range rest {
		items = append(items, n.item)
	}
	p := o.cut(items, c.Limit)
	p.Total = len(o.items)
	return p, nil
}

// cut makes a page of items that are in order, of which there may be more than it
// has.
func (o ordered[T]) cut(items []T, limit int) *Page[T] {
	p := &Page[T]{Items: append([]T{}, items[:min(len(items), limit)]...)}
	if len(items) > limit {
		p.Next = base64.RawURLEncoding.EncodeToString([]byte(o.name(p.Items[limit-1])))
	}
	return p
}
