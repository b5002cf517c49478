package structure_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"posthorn/mailbox/structure"
)

func parse(message string) *structure.Part {
	p := structure.NewParser()
	io.WriteString(p, message)
	return p.Finish()
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// outline writes a structure as type, body and children.
func outline(message string, p *structure.Part) string {
	s := fmt.Sprintf("%s/%s", p.Type, p.Subtype)
	switch {
	case p.Message != nil:
		return fmt.Sprintf("%s{%s}", s, outline(message, p.Message))
	case p.Multipart():
		var children []string
		for _, c := range p.Children {
			children = append(children, outline(message, c))
		}
		return fmt.Sprintf("%s(%s)", s, strings.Join(children, " "))
	}
	return fmt.Sprintf("%s%q:%d", s, message[p.Body:p.End], p.Lines)
}

func TestOutline(t *testing.T) {
	for name, tc := range map[string]struct{ message, want string }{
		"empty":                {"", `text/plain"":0`},
		"header only":          {"Subject: x\n", `text/plain"":0`},
		"header without end":   {"Subject: x", `text/plain"":0`},
		"body only":            {"\nbody\n", `text/plain"body\r\n":1`},
		"body without end":     {"A: b\n\none\ntwo", `text/plain"one\r\ntwo":1`},
		"unknown type":         {"Content-Type: what\n\nx", `text/plain"x":0`},
		"type with parameters": {"Content-Type: IMAGE/Png; name=\"a;b\"\n\nx", `image/png"x":0`},
		"folded type":          {"Content-Type:\n multipart/mixed;\n\tboundary=b\n\n--b\n\none\n--b--\n", `multipart/mixed(text/plain"one":0)`},
		"two parts": {
			"Content-Type: multipart/alternative; boundary=\"b b\"\n\npreamble\n--b b\n\none\n\n--b b  \nContent-Type: text/html\n\ntwo\n--b b--\nepilogue\n--b b\n",
			`multipart/alternative(text/plain"one\r\n":1 text/html"two":0)`,
		},
		"no final delimiter":  {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n", `multipart/mixed(text/plain"one":0 text/plain"two\r\n":1)`},
		"no parts":            {"Content-Type: multipart/mixed; boundary=b\n\nno parts\n", `multipart/mixed(text/plain"":0)`},
		"no parts at all":     {"Content-Type: multipart/mixed; boundary=b", `multipart/mixed(text/plain"":0)`},
		"only the end":        {"Content-Type: multipart/mixed; boundary=b\n\n--b--\n", `multipart/mixed(text/plain"":0)`},
		"empty part":          {"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b--\n", `multipart/mixed(text/plain"":0)`},
		"no boundary":         {"Content-Type: multipart/mixed\n\n--b\n\none\n", `application/octet-stream"--b\r\n\r\none\r\n":3`},
		"prefix of boundary":  {"Content-Type: multipart/mixed; boundary=bb\n\n--b\n--bb\n\none\n--bbb\n--bb--", `multipart/mixed(text/plain"one\r\n--bbb":1)`},
		"last line delimiter": {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b", `multipart/mixed(text/plain"one":0 text/plain"":0)`},
		"header cut by delimiter": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n",
			`multipart/mixed(text/html"":0 text/plain"two":0)`,
		},
		"inner ended by outer": {
			"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\none\n--o\n\ntwo\n--o--\n",
			`multipart/mixed(multipart/mixed(text/plain"one":0) text/plain"two":0)`,
		},
		"same boundary inside": {
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n--b--\n",
			`multipart/mixed(multipart/mixed(text/plain"one":0))`,
		},
		"message inside": {
			"Content-Type: message/rfc822\n\nSubject: in\n\nbody\n",
			`message/rfc822{text/plain"body\r\n":1}`,
		},
		"message inside without header": {
			"Content-Type: message/rfc822\n",
			`message/rfc822{text/plain"":0}`,
		},
		"digest": {
			"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\n1\n--b\nContent-Type: text/plain\n\n2\n--b--\n",
			`multipart/digest(message/rfc822{text/plain"1":0} text/plain"2":0)`,
		},
		"multipart in message in multipart": {
			"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/global\n\n" +
				"Content-Type: multipart/mixed; boundary=i\n\n--i\n\none\n--i--\n\n--o--\n",
			`multipart/mixed(message/global{multipart/mixed(text/plain"one":0)})`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			message := crlf(tc.message)
			if got := outline(message, parse(message)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestBareLineFeeds(t *testing.T) {
	message := "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\ntwo\n--b--\n"
	if got, want := outline(message, parse(message)), `multipart/mixed(text/plain"one\ntwo":1)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAnyReads cuts a message in every possible way.
func TestAnyReads(t *testing.T) {
	message := crlf("From: a@b.example\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\n\n" +
		"Subject: in\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\n-one\n--\n--i--\n\n--o\n\ntwo\n--o--\nend")
	want := parse(message)
	p := structure.NewParser()
	if _, err := io.Copy(p, iotest.OneByteReader(strings.NewReader(message))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, p.Finish()); diff != "" {
		t.Errorf("octet by octet: %s", diff)
	}
	for range 200 {
		p := structure.NewParser()
		for rest := message; rest != ""; {
			n := 1 + rand.IntN(min(len(rest), 20))
			io.WriteString(p, rest[:n])
			rest = rest[n:]
		}
		if diff := cmp.Diff(want, p.Finish()); diff != "" {
			t.Fatalf("in pieces: %s", diff)
		}
	}
}

func TestEnvelope(t *testing.T) {
	date := time.Date(2026, 10, 1, 12, 30, 0, 0, time.FixedZone("", 7200))
	for name, tc := range map[string]struct {
		header string
		want   imap.Envelope
	}{
		"empty": {"", imap.Envelope{}},
		"plain": {
			"Date: Thu, 1 Oct 2026 12:30:00 +0200 (CEST)\nSubject: Hello\n World\nMessage-ID: <1@x>\nIn-Reply-To: <2@x>\n <3@x>\n",
			imap.Envelope{Date: date, Subject: "Hello World", MessageID: "1@x", InReplyTo: []string{"2@x", "3@x"}},
		},
		"encoded": {
			"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?iso-8859-1?B?5A==?= x\nFrom: =?utf-8?b?w4Q=?= <a@x>\n",
			imap.Envelope{Subject: "Grüßeä x", From: []imap.Address{{Name: "Ä", Mailbox: "a", Host: "x"}}},
		},
		"raw 8-bit": {"Subject: Gr\xfc\xdfe\n", imap.Envelope{Subject: "Grüße"}},
		"raw UTF-8": {"Subject: Grüße\n", imap.Envelope{Subject: "Grüße"}},
		"controls":  {"Subject: a\x00b\x1b[31m\tc\x7f\nMessage-ID: <a\x01b>\n", imap.Envelope{Subject: "ab[31m c", MessageID: "ab"}},
		"hidden line end": {
			"Subject: =?utf-8?q?a=0D=0AX:_y?=\n", imap.Envelope{Subject: "aX: y"},
		},
		"unknown charset": {"Subject: =?x-none?q?a?=\n", imap.Envelope{Subject: "=?x-none?q?a?="}},
		"first one counts": {
			"Subject: one\nSubject: two\n", imap.Envelope{Subject: "one"},
		},
		"bad date":   {"Date: yesterday\n", imap.Envelope{}},
		"odd id":     {"Message-ID: 1@x\n", imap.Envelope{MessageID: "1@x"}},
		"no id":      {"Message-ID: a b\n", imap.Envelope{}},
		"empty id":   {"Message-ID: <>\n", imap.Envelope{}},
		"open id":    {"Message-ID: <a\n", imap.Envelope{}},
		"space name": {"Subject : x\n", imap.Envelope{Subject: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := parse(crlf(tc.header) + "\r\n").Envelope
			if !got.Date.Equal(tc.want.Date) {
				t.Errorf("date %v", got.Date)
			}
			got.Date = tc.want.Date
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for value, want := range map[string][]imap.Address{
		"":                                   nil,
		"a@x":                                {{Mailbox: "a", Host: "x"}},
		"A B <a@x>":                          {{Name: "A B", Mailbox: "a", Host: "x"}},
		`"B, A" <a@x>, c@y`:                  {{Name: "B, A", Mailbox: "a", Host: "x"}, {Mailbox: "c", Host: "y"}},
		`"q\"uote" <a@x>`:                    {{Name: `q"uote`, Mailbox: "a", Host: "x"}},
		"a@x (Name)":                         {{Name: "Name", Mailbox: "a", Host: "x"}},
		"a@x (Na (inner) me)":                {{Name: "Na (inner) me", Mailbox: "a", Host: "x"}},
		"<@r1,@r2:a@x>":                      {{Mailbox: "a", Host: "x"}},
		"undisclosed-recipients:;":           {{Mailbox: "undisclosed-recipients"}, {}},
		"G: a@x, b@y; c@z":                   {{Mailbox: "G"}, {Mailbox: "a", Host: "x"}, {Mailbox: "b", Host: "y"}, {}, {Mailbox: "c", Host: "z"}},
		"G: a@x":                             {{Mailbox: "G"}, {Mailbox: "a", Host: "x"}, {}},
		`"a b"@x`:                            {{Mailbox: "a b", Host: "x"}},
		`"a@b"@x`:                            {{Mailbox: "a@b", Host: "x"}},
		",, ,a@x,,":                          {{Mailbox: "a", Host: "x"}},
		"nobody":                             nil,
		"<a@x":                               {{Mailbox: "a", Host: "x"}},
		"a@":                                 nil,
		"@x":                                 nil,
		`"open <a@x>`:                        {{Mailbox: "open <a", Host: "x>"}},
		"(open a@x":                          nil,
		"A <a@x> junk, b@y":                  {{Name: "A", Mailbox: "a", Host: "x"}, {Mailbox: "b", Host: "y"}},
		"=?utf-8?q?=2C?= <a@x>":              {{Name: ",", Mailbox: "a", Host: "x"}},
		"=?utf-8?q?a=00b?= <a@x>":            {{Name: "ab", Mailbox: "a", Host: "x"}},
		"Å <å@ø.example>":                    {{Name: "Å", Mailbox: "å", Host: "ø.example"}},
		strings.Repeat("(", 1000) + "a@x":    nil,
		strings.Repeat(":", 1000) + "a@x":    {{Mailbox: "a", Host: "x"}},
		strings.Repeat(";", 1000) + " <a@x>": {{Mailbox: "a", Host: "x"}},
	} {
		got := parse("To: " + value + "\r\n\r\n").Envelope.To
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", value, diff)
		}
	}
}

func TestBodyStructure(t *testing.T) {
	message := crlf("Content-Type: multipart/mixed; boundary=b\nContent-Language: de, en\n\n--b\n" +
		"Content-Type: text/plain; charset=UTF-8; format=flowed; charset=other; bad param=1; =2\n" +
		"Content-Transfer-Encoding: Base64\nContent-ID: <i>\nContent-Description: d\n" +
		"Content-Disposition: Attachment; filename*0*=utf-8''a%20; FileName*1=\"b;c\"\nContent-Location: here\n\nQUJD\n--b--\n")
	want := &imap.BodyStructureMultiPart{
		Subtype: "mixed",
		Children: []imap.BodyStructure{&imap.BodyStructureSinglePart{
			Type: "text", Subtype: "plain",
			Params:      map[string]string{"charset": "UTF-8", "format": "flowed"},
			ID:          "<i>",
			Description: "d",
			Encoding:    "base64",
			Size:        4,
			Text:        &imap.BodyStructureText{},
			Extended: &imap.BodyStructureSinglePartExt{
				Disposition: &imap.BodyStructureDisposition{
					Value:  "attachment",
					Params: map[string]string{"filename*0*": "utf-8''a%20", "filename*1": "b;c"},
				},
				Location: "here",
			},
		}},
		Extended: &imap.BodyStructureMultiPartExt{
			Params:   map[string]string{"boundary": "b"},
			Language: []string{"de", "en"},
		},
	}
	if diff := cmp.Diff(imap.BodyStructure(want), parse(message).BodyStructure()); diff != "" {
		t.Error(diff)
	}
}

func TestFind(t *testing.T) {
	message := crlf("Content-Type: multipart/mixed; boundary=o\n\n--o\n\none\n--o\nContent-Type: message/rfc822\n\n" +
		"Content-Type: multipart/mixed; boundary=i\n\n--i\n\ntwo\n--i\nContent-Type: message/rfc822\n\nSubject: x\n\nthree\n--i--\n\n--o--\n")
	root := parse(message)
	for _, tc := range []struct {
		number []int
		want   string // the body; "-": there is no such part
	}{
		{[]int{1}, "one"},
		{[]int{2, 1}, "two"},
		{[]int{2, 2, 1}, "three"},
		{[]int{2, 2}, "Subject: x\r\n\r\nthree"},
		{[]int{2, 2, 2}, "-"},
		{[]int{2, 2, 1, 1}, "-"},
		{[]int{1, 1}, "-"},
		{[]int{0}, "-"},
		{[]int{-1}, "-"},
		{[]int{3}, "-"},
		{[]int{2, 3}, "-"},
	} {
		got := "-"
		if p := root.Find(tc.number); p != nil {
			got = message[p.Body:p.End]
		}
		if got != tc.want {
			t.Errorf("%v: %q, want %q", tc.number, got, tc.want)
		}
	}
	if root.Find(nil) != root {
		t.Error("the empty number is not the message")
	}
	single := parse("\r\nbody")
	if single.Find([]int{1}) != single || single.Find([]int{2}) != nil || single.Find([]int{1, 1}) != nil {
		t.Error("part 1 of a simple message is its body, and there is no other")
	}
}

// hostile are messages that break parsers.
var hostile = map[string]func() string{
	"multiparts 5,000 deep": func() string {
		var b strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n", i, i)
		}
		return b.String()
	},
	"multiparts 5,000 deep and closed": func() string {
		var b strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n", i, i)
		}
		for i := range 5000 {
			fmt.Fprintf(&b, "--%d--\r\n", 4999-i)
		}
		return b.String()
	},
	"messages 20,000 deep": func() string {
		return strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 20000)
	},
	"digests in messages": func() string {
		return strings.Repeat("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n", 10000)
	},
	"a million parts": func() string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n", 1000000)
	},
	"delimiters of nobody": func() string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("--c\r\n", 1000000)
	},
	"header of one line": func() string { return "Subject: " + strings.Repeat("=?utf-8?q?x?= ", 500000) },
	"a million fields":   func() string { return strings.Repeat("To: a@b\r\n", 1000000) },
	"a million folds":    func() string { return "To: a@b" + strings.Repeat(",\r\n a@b", 1000000) },
	"comments":           func() string { return "To: " + strings.Repeat("(", 1000000) },
	"quotes":             func() string { return "To: " + strings.Repeat(`"a`, 1000000) },
	"words that never end": func() string {
		return "Subject: " + strings.Repeat("=?utf-8?q?", 100000)
	},
	"parameters": func() string {
		return "Content-Type: text/plain" + strings.Repeat("; a=b", 500000)
	},
	"many large headers": func() string {
		part := "--b\r\nContent-Description: " + strings.Repeat("x", 60000) + "\r\n\r\n"
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat(part, 100)
	},
	"line without end": func() string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("-", 5<<20)
	},
	"carriage returns": func() string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("\r", 5<<20)
	},
}

func TestHostile(t *testing.T) {
	for name, make := range hostile {
		t.Run(name, func(t *testing.T) {
			message := make()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			root := parse(message)
			encoded := root.Encode()
			decoded, err := structure.Decode(encoded)
			if err != nil {
				t.Fatal(err)
			}
			decoded.BodyStructure()
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if took > 3*time.Second {
				t.Errorf("took %v for %d octets", took, len(message))
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 40<<20 {
				t.Errorf("allocated %d MiB", grown>>20)
			}
			if len(encoded) > 400<<10 {
				t.Errorf("encoded in %d octets", len(encoded))
			}
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	good := parse(crlf("From: a@b\nDate: Thu, 1 Oct 2026 12:30:00 +0200\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n")).Encode()
	if _, err := structure.Decode(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := structure.Decode(good[:i]); err != structure.ErrFormat {
			t.Errorf("cut after %d octets: %v", i, err)
		}
	}
	if _, err := structure.Decode(append(bytes.Clone(good), 0)); err != structure.ErrFormat {
		t.Errorf("with another octet: %v", err)
	}
}

func FuzzParser(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n", 3)
	f.Add("Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n", 1)
	f.Add("Content-Type: multipart/digest; boundary=\"b\"\r\n\r\n--b\r\n\r\nTo: g: a@b;\r\n\r\n1\r\n--b", 7)
	f.Add("Subject: =?utf-8?q?=C3?=\n\n", 2)
	f.Add("00\n\r", 1)
	f.Add("Content-Type:multipart/digest;boundary=b\n\n--b\n\n\n--b", 1)
	f.Fuzz(func(t *testing.T, message string, step int) {
		root := parse(message)
		check(t, root, 0, int64(len(message)))
		p := structure.NewParser()
		for rest := message; rest != ""; {
			n := min(max(1, step), len(rest))
			io.WriteString(p, rest[:n])
			rest = rest[n:]
		}
		encoded := p.Finish().Encode()
		if !bytes.Equal(encoded, root.Encode()) {
			t.Error("depends on how it is cut")
		}
		decoded, err := structure.Decode(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(decoded.Encode(), encoded) {
			t.Error("decodes to something else")
		}
		decoded.BodyStructure()
	})
}

// check makes sure that a part lies between two offsets, and its parts in it.
func check(t *testing.T, p *structure.Part, start, end int64) {
	if p.Header < start || p.Body < p.Header || p.End < p.Body || p.End > end {
		t.Fatalf("%d %d %d not within %d %d", p.Header, p.Body, p.End, start, end)
	}
	if p.Lines < 0 || p.Lines > p.End-p.Body {
		t.Fatalf("%d lines in %d octets", p.Lines, p.End-p.Body)
	}
	at := p.Body
	for _, c := range p.Children {
		check(t, c, at, p.End)
		at = c.End
	}
	if p.Message != nil {
		check(t, p.Message, p.Body, p.End)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(parse("From: a@b\r\n\r\nx").Encode())
	f.Add(parse("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n").Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := structure.Decode(b); err == nil {
			p.BodyStructure()
		}
	})
}

func BenchmarkParser(b *testing.B) {
	var m strings.Builder
	m.WriteString("From: a@b.example\r\nTo: c@d.example\r\nSubject: Hello\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n")
	for range 140 {
		m.WriteString("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod.\r\n")
	}
	m.WriteString("--b--\r\n")
	message := []byte(m.String())
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		p := structure.NewParser()
		p.Write(message)
		p.Finish().Encode()
	}
}
