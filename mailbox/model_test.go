package mailbox_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"posthorn/mailbox"
)

// modelMessage is what the model knows of a message.
type modelMessage struct {
	uid   int
	flags string // sorted, apart by spaces
	body  string
}

type modelMailbox struct {
	uidNext  int
	messages []modelMessage
}

// model does to maps what a session does to a store.
type model map[string]*modelMailbox

func newModel() model {
	m := model{}
	for _, name := range []string{"INBOX", "Sent", "Drafts", "Trash", "Junk", "Archive"} {
		m[name] = &modelMailbox{uidNext: 1}
	}
	return m
}

func (m *modelMailbox) add(flags, body string) {
	m.messages = append(m.messages, modelMessage{m.uidNext, flags, body})
	m.uidNext++
}

func (m *modelMailbox) remove(gone func(modelMessage) bool) {
	m.messages = slices.DeleteFunc(m.messages, gone)
}

func sortFlags(flags []string) string {
	sort.Strings(flags)
	return strings.Join(slices.Compact(flags), " ")
}

// fetched parses the responses to FETCH (UID FLAGS BODY.PEEK[TEXT]).
func fetched(t *testing.T, lines []string) []modelMessage {
	t.Helper()
	var list []modelMessage
	for i, line := range lines[:len(lines)-1] {
		var seq, uid int
		if _, err := fmt.Sscanf(line, "* %d FETCH (UID %d ", &seq, &uid); err != nil || seq != i+1 {
			t.Fatalf("response %d: %q", i, line)
		}
		_, flags, _ := strings.Cut(line, "FLAGS (")
		flags, rest, _ := strings.Cut(flags, ")")
		_, body, _ := strings.Cut(rest, "}\r\n")
		list = append(list, modelMessage{uid, sortFlags(strings.Fields(strings.ReplaceAll(flags, `\Recent`, ""))), strings.TrimSuffix(body, ")")})
	}
	return list
}

// observer is a second session with INBOX selected that believes what it is
// told.
type observer struct {
	*talk
	messages []modelMessage
}

func newObserver(t *testing.T, s *mailbox.Store) *observer {
	o := &observer{talk: newTalk(t, s, "a")}
	o.do("EXAMINE INBOX")
	o.messages = fetched(t, o.do("FETCH 1:* (UID FLAGS BODY.PEEK[TEXT])"))
	return o
}

func (o *observer) listen(command string) {
	o.t.Helper()
	for _, line := range o.do(command) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "*" {
			continue
		}
		n, err := strconv.Atoi(f[1])
		switch {
		case err != nil:
		case f[2] == "EXPUNGE":
			o.messages = slices.Delete(o.messages, n-1, n)
		case f[2] == "EXISTS":
			if n <= len(o.messages) {
				o.t.Errorf("%s after %d", line, len(o.messages))
			}
			for len(o.messages) < n {
				o.messages = append(o.messages, modelMessage{})
			}
		case f[2] == "FETCH":
			got := fetched(o.t.(*testing.T), []string{strings.Replace(line, f[1], "1", 1), "OK"})[0]
			o.messages[n-1].flags = got.flags
			if uid := o.messages[n-1].uid; uid != 0 && uid != got.uid {
				o.t.Errorf("%d has UID %d, had %d", n, got.uid, uid)
			}
		}
	}
}

// TestModel does random things to a store and to a model of it.
func TestModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 0)), 400) })
	}
}

func runModel(t *testing.T, r *rand.Rand, steps int) {
	dir := t.TempDir()
	s := openDir(t, dir, mailbox.Options{})
	m := newModel()
	c, o := newTalk(t, s, "a"), newObserver(t, s)
	selected := "INBOX"
	c.do("SELECT INBOX")
	pick := func() string {
		names := make([]string, 0, len(m))
		for name := range m {
			names = append(names, name)
		}
		sort.Strings(names)
		return names[r.IntN(len(names))]
	}
	for step := range steps {
		box := m[selected]
		n := len(box.messages)
		from := 1 + r.IntN(n+1)
		to := from + r.IntN(3)
		set := fmt.Sprintf("%d:%d", from, to)
		in := box.messages[min(from-1, n):min(to, n)]
		switch r.IntN(15) {
		case 0, 1, 2:
			body := fmt.Sprintf("body %d", step)
			deliver(t, s, "Subject: x\r\n\r\n"+body, "a", fmt.Sprint(step%3))
			m["INBOX"].add("", body)
		case 3:
			body, dest := strings.Repeat("large ", 1000*r.IntN(100)), pick()
			if got := c.append(dest, `(\Flagged) `, "\r\n"+body); got != "OK APPENDUID" {
				t.Fatal(got)
			}
			m[dest].add(`\Flagged`, body)
		case 4, 5, 6:
			op := []string{"+FLAGS", "-FLAGS", "FLAGS"}[r.IntN(3)]
			flag := []string{`\Seen`, `\Deleted`, `\Answered`, "kw1", "kw2"}[r.IntN(5)]
			c.tagged(fmt.Sprintf("STORE %s %s.SILENT (%s)", set, op, flag), "OK")
			for i := range in {
				old := strings.Fields(in[i].flags)
				switch op {
				case "+FLAGS":
					old = append(old, flag)
				case "-FLAGS":
					old = slices.DeleteFunc(old, func(f string) bool { return f == flag })
				default:
					old = []string{flag}
				}
				in[i].flags = sortFlags(old)
			}
		case 7:
			c.tagged("EXPUNGE", "OK")
			box.remove(func(g modelMessage) bool { return strings.Contains(g.flags, "Deleted") })
		case 8, 9:
			dest := pick()
			for _, g := range slices.Clone(in) {
				m[dest].add(g.flags, g.body)
			}
			if lines := c.do(fmt.Sprintf("COPY %s %s", set, dest)); !strings.HasPrefix(lines[len(lines)-1], "OK") {
				t.Fatal(lines)
			}
		case 10:
			dest := pick()
			moved := slices.Clone(in)
			for _, g := range moved {
				m[dest].add(g.flags, g.body)
			}
			if len(moved) > 0 {
				last := moved[len(moved)-1].uid
				box.remove(func(g modelMessage) bool { return g.uid >= moved[0].uid && g.uid <= last })
			}
			c.tagged(fmt.Sprintf("MOVE %s %s", set, dest), "OK")
		case 11:
			name := fmt.Sprintf("m%d", r.IntN(5))
			if m[name] == nil {
				c.tagged("CREATE "+name, "OK")
				m[name] = &modelMailbox{uidNext: 1}
			} else if name != selected {
				c.tagged("DELETE "+name, "OK")
				delete(m, name)
			}
		case 12:
			name := pick()
			if to := fmt.Sprintf("r%d", r.IntN(3)); m[to] == nil && name != selected {
				c.tagged(fmt.Sprintf("RENAME %s %s", name, to), "OK")
				m[to] = m[name]
				delete(m, name)
				if name == "INBOX" {
					m[name] = &modelMailbox{uidNext: m[to].uidNext}
					m[to].uidNext = 1
					for i := range m[to].messages {
						m[to].messages[i].uid = i + 1
						m[to].uidNext++
					}
				}
			}
		case 13:
			selected = pick()
			c.tagged("SELECT "+selected, "OK [READ-WRITE]")
		case 14:
			if r.IntN(5) > 0 {
				continue
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openDir(t, dir, mailbox.Options{})
			c, o = newTalk(t, s, "a"), newObserver(t, s)
			c.do("SELECT " + selected)
		}
		c.do("NOOP")
		if diff := cmp.Diff(m[selected].messages, fetched(t, c.do("FETCH 1:* (UID FLAGS BODY.PEEK[TEXT])")), cmp.AllowUnexported(modelMessage{}), cmpEmpty); diff != "" {
			t.Fatalf("step %d: %s", step, diff)
		}
		o.listen([]string{"NOOP", "FETCH 1:* (UID FLAGS)", "CHECK", "UID SEARCH ALL"}[r.IntN(4)])
	}
	compareAll(t, s, m)
	o.listen("NOOP")
	want := fetched(t, o.do("FETCH 1:* (UID FLAGS BODY.PEEK[TEXT])"))
	for i := range want {
		if i >= len(o.messages) || o.messages[i].flags != want[i].flags && o.messages[i].uid != 0 {
			t.Errorf("the observer was not told of %+v", want[i])
		}
	}
	if len(o.messages) != len(want) {
		t.Errorf("the observer knows %d of %d", len(o.messages), len(want))
	}
}

var cmpEmpty = cmp.FilterValues(func(a, b []modelMessage) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())

// compareAll looks at all mailboxes and their counters.
func compareAll(t *testing.T, s *mailbox.Store, m model) {
	t.Helper()
	c := newTalk(t, s, "a")
	if n := len(c.do(`LIST "" *`)) - 1; n != len(m) {
		t.Errorf("%d mailboxes, want %d", n, len(m))
	}
	var all int
	for name, box := range m {
		c.do("EXAMINE " + name)
		if diff := cmp.Diff(box.messages, fetched(t, c.do("FETCH 1:* (UID FLAGS BODY.PEEK[TEXT])")), cmp.AllowUnexported(modelMessage{}), cmpEmpty); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		unseen, deleted := 0, 0
		for _, g := range box.messages {
			if !strings.Contains(g.flags, "Seen") {
				unseen++
			}
			if strings.Contains(g.flags, "Deleted") {
				deleted++
			}
		}
		all += len(box.messages)
		want := fmt.Sprintf("(MESSAGES %d UIDNEXT %d UNSEEN %d DELETED %d)", len(box.messages), box.uidNext, unseen, deleted)
		if got := c.do("STATUS " + name + " (MESSAGES UIDNEXT UNSEEN DELETED)")[0]; !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if _, n, _ := s.Usage(t.Context(), "a"); n != all {
		t.Errorf("usage counts %d messages, want %d", n, all)
	}
}
