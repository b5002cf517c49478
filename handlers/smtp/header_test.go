package smtp

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func own(address string) bool { return strings.EqualFold(address, "alice@localhost") }

func TestCheckAuthor(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         error
	}{
		{"none", "Subject: x\r\n", nil},
		{"own", "From: alice@localhost\r\n", nil},
		{"own in brackets", "From: Alice <alice@localhost>\r\n", nil},
		{"case", "FROM: ALICE@LOCALHOST\r\n", nil},
		{"folded", "From:\r\n Alice\r\n\t<alice@localhost>\r\n", nil},
		{"comment", "From: alice@localhost (Alice)\r\n", nil},
		{"twice the same address", "From: alice@localhost, <alice@localhost>\r\n", nil},
		{"unknown charset", "From: =?x-none?q?Al=EFce?= <alice@localhost>\r\n", nil},
		{"bad UTF-16", "From: =?utf-16?q?=E1?= <alice@localhost>\r\n", nil},
		{"bad ISO-2022-JP", "From: =?iso-2022-jp?q?=1B$B2?= <alice@localhost>\r\n", nil},
		{"bad HZ", "From: =?hz-gb-2312?q?~=7B=FF~x?= <alice@localhost>\r\n", nil},
		{"own sender", "From: alice@localhost\r\nSender: alice@localhost\r\n", nil},
		{"foreign", "From: bob@localhost\r\n", errHeaderFrom},
		{"foreign behind own", "From: alice@localhost, bob@localhost\r\n", errHeaderFrom},
		{"foreign on a folded line", "From: alice@localhost,\r\n bob@localhost\r\n", errHeaderFrom},
		{"foreign in a group", "From: us: alice@localhost, bob@localhost;\r\n", errHeaderFrom},
		{"foreign sender", "From: alice@localhost\r\nSender: bob@localhost\r\n", errHeaderFrom},
		{"quoted local part", "From: \"alice@localhost\"@example.org\r\n", errHeaderFrom},
		{"two fields", "From: alice@localhost\r\nSubject: x\r\nfrom: alice@localhost\r\n", errManyFrom},
		{"two senders", "Sender: alice@localhost\r\nSender: alice@localhost\r\n", errManyFrom},
		{"empty", "From:\r\n", errBadFrom},
		{"empty group", "From: nobody:;\r\n", errBadFrom},
		{"encoded address", "From: =?utf-8?q?alice=40localhost?=\r\n", errBadFrom},
		{"open quote", "From: \"alice <alice@localhost>\r\n", errBadFrom},
		{"open comment", "From: (alice@localhost\r\n", errBadFrom},
		{"two routes", "From: <bob@localhost> <alice@localhost>\r\n", errBadFrom},
		{"address as a name", "From: bob@localhost <alice@localhost>\r\n", errBadFrom},
		{"long", "From: " + strings.Repeat("a", maxFrom) + "\r\n", errBadFrom},
	} {
		h, _, err := readHeader(bufio.NewReader(strings.NewReader(c.header + "\r\nbody\r\n")))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := h.checkAuthor(own); !errors.Is(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDisplayName(t *testing.T) {
	for _, c := range []struct{ header, want string }{
		{"From: \"Boss, The\" <boss@localhost>\r\n", "Boss, The"},
		{"From: Boss <boss@localhost>, Chef <chef@localhost>\r\n", "Boss"},
		{"From: =?utf-8?q?J=C3=BCrgen?= <j@localhost>\r\n", "J\u00fcrgen"},
		{"From: =?koi8-r?q?=E1=CC=C9=D3=C1?= <a@localhost>\r\n", "\u0410\u043b\u0438\u0441\u0430"},
		{"From: =?iso-2022-jp?b?GyRCMlYbKEI=?= <h@localhost>\r\n", "\u82b1"},
		{"From: =?x-none?q?Al=EFce?= <alice@localhost>\r\n", ""},
		{"From: alice@localhost\r\n", ""},
		{"From: Boss <boss@localhost>\r\nFrom: Chef <chef@localhost>\r\n", ""},
		{"From: Boss\r\n", ""},
		{"Subject: x\r\n", ""},
	} {
		h, _, err := readHeader(bufio.NewReader(strings.NewReader(c.header + "\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		if got := h.displayName(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.header, got, c.want)
		}
	}
}

func TestReadHeaderEnds(t *testing.T) {
	for _, c := range []struct{ name, in, header, rest string }{
		{"at the empty line", "A: b\r\n c\r\n\r\nx\r\n", "A: b\r\n c\r\n", "x\r\n"},
		{"with the message", "A: b\r\n", "A: b\r\n", ""},
		{"at once", "\r\nFrom: x\r\n", "", "From: x\r\n"},
		{"no header", "Hello,\r\nFrom: x\r\n", "", "Hello,\r\nFrom: x\r\n"},
		{"at a line without colon", "A: b\r\nrubbish\r\nFrom: x\r\n", "A: b\r\n", "rubbish\r\nFrom: x\r\n"},
		{"at a space before the colon", "A: b\r\nFrom : x\r\n", "A: b\r\n", "From : x\r\n"},
		{"at a control character", "A: b\r\nFr\x1bom: x\r\n", "A: b\r\n", "Fr\x1bom: x\r\n"},
		{"at a fold of nothing", " From: x\r\n", "", " From: x\r\n"},
		{"not at blanks", "A: b\r\n \r\nC: d\r\n\r\n", "A: b\r\n \r\nC: d\r\n", ""},
	} {
		r := bufio.NewReader(strings.NewReader(c.in))
		h, begun, err := readHeader(r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		left, _ := io.ReadAll(r)
		rest := string(begun) + string(left)
		if string(h.raw) != c.header || rest != c.rest {
			t.Errorf("%s: got %q and %q", c.name, h.raw, rest)
		}
	}
}

func TestReadHeaderBounded(t *testing.T) {
	for name, in := range map[string]string{
		"one line":    "A: " + strings.Repeat("x", maxHeader) + "\r\n",
		"many lines":  strings.Repeat("A: b\r\n", maxHeader/6+1),
		"many folded": "A: b\r\n" + strings.Repeat(" b\r\n", maxHeader/4+1),
	} {
		_, _, err := readHeader(bufio.NewReader(strings.NewReader(in)))
		if !errors.Is(err, errHeaderTooBig) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("From: alice@localhost\r\n\r\nx\r\n")
	f.Add("From: a:b, (c) \"d\r\n\" <alice@localhost>;\r\nsender: x\r\n")
	f.Add("X\r\nFrom: bob@localhost\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		r := bufio.NewReader(strings.NewReader(in))
		h, begun, err := readHeader(r)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(r)
		rest = append(begun, rest...)
		// Written on, the message has the same header for whoever reads it next.
		again, _, err := readHeader(bufio.NewReader(strings.NewReader(string(h.raw) + "\r\n" + string(rest))))
		if err == nil && strings.HasSuffix(string(h.raw), "\n") && string(again.raw) != string(h.raw) {
			t.Errorf("%q reads %q at first, then %q", in, h.raw, again.raw)
		}
		if h.checkAuthor(own) == nil && strings.Contains(strings.ToLower(string(h.raw)), "\nfrom: bob@") {
			t.Errorf("%q passes", in)
		}
		h.without("from", "sender")
		h.displayName()
	})
}
