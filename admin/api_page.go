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

// page cuts a page out of a list.
func (o ordered[T]) page(c Cut) (*Page[T], error) {
	after, err := base64.RawURLEncoding.DecodeString(c.Cursor)
	if err != nil {
		return nil, &InvalidError{"cursor", "is none of this list"}
	}
	compare := strings.Compare
	if o.newest {
		compare = func(a, b string) int { return strings.Compare(b, a) }
	}
	slices.SortFunc(o.items, func(a, b T) int { return compare(o.name(a), o.name(b)) })
	p := &Page[T]{Items: o.items, Total: len(o.items)}
	if c.Cursor != "" {
		from, found := slices.BinarySearchFunc(p.Items, string(after), func(item T, name string) int { return compare(o.name(item), name) })
		if found {
			from++
		}
		p.Items = p.Items[from:]
	}
	if len(p.Items) > c.Limit {
		p.Items = p.Items[:c.Limit]
		p.Next = base64.RawURLEncoding.EncodeToString([]byte(o.name(p.Items[c.Limit-1])))
	}
	p.Items = append([]T{}, p.Items...)
	return p, nil
}
