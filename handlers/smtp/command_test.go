package smtp

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net/netip"
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	for _, s := range []string{
		"localhost", "mail.example.org", "my_phone", "[127.0.0.1]", "[IPv6:2001:db8::1]", "[::1]",
		"[IPv6:fe80::1%eth0]", "jürgens-pc", "10.0.0.1",
	} {
		if !validName(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range []string{
		"", " ", "a b", "a\r\nX: y", "a\x00", "a\x1b[31m", "a(b)", "<a>", "[127.0.0.1", "[a]", "[]", "a;b", "a\"", "a\\b",
		"[127.0.0.1] x", "\xff", "a\u2028b", strings.Repeat("a", 256), "%s%n",
	} {
		if validName(s) {
			t.Errorf("%q is accepted", s)
		}
	}
}

func FuzzValidName(f *testing.F) {
	f.Add("[IPv6:::1%a]")
	f.Add("a.b\u0085")
	f.Add("[IPv6:::1% 0]") // netip takes any zone
	f.Fuzz(func(t *testing.T, s string) {
		if validName(s) && (strings.ContainsAny(s, " \t\r\n\x00()<>@,;\\\"") || len(s) > 255) {
			t.Errorf("%q is accepted", s)
		}
	})
}

func TestAddressLiteral(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "[192.0.2.1]", "::ffff:192.0.2.1": "[192.0.2.1]", "2001:db8::1": "[IPv6:2001:db8::1]", "fe80::1%eth0": "[IPv6:fe80::1]",
	} {
		if got := addressLiteral(netip.MustParseAddr(address)); got != want || !isLiteral(got) {
			t.Errorf("%s: got %s", address, got)
		}
	}
}

func TestParseChunk(t *testing.T) {
	for _, c := range []struct {
		arg  string
		size int64
		last bool
	}{
		{"0", 0, false}, {"0 LAST", 0, true}, {"12 last", 12, true}, {"00012", 12, false},
		{"9223372036854775807", math.MaxInt64, false},
	} {
		size, last, ok := parseChunk(c.arg)
		if !ok || size != c.size || last != c.last {
			t.Errorf("%q: got %d, %v, %v", c.arg, size, last, ok)
		}
	}
	for _, arg := range []string{
		"", "-1", "+1", "1x", "0x10", "1 FIRST", "1 LAST LAST", "LAST", "9223372036854775808", "1e3", "1.0", "１",
		"18446744073709551617", "1 ",
	} {
		if _, _, ok := parseChunk(arg); ok {
			t.Errorf("%q is accepted", arg)
		}
	}
}

func TestForeign(t *testing.T) {
	for _, line := range []string{
		"GET / HTTP/1.1", "POST /mail HTTP/1.1", "PRI * HTTP/2.0", "Host: example.org", "User-Agent: x",
		"a1 LOGIN alice secret", "* CAPABILITY", "1 noop",
	} {
		if !foreign(line) {
			t.Errorf("%q is not", line)
		}
	}
	for _, line := range []string{
		"", "EHLO login", "MAIL FROM:<a@b>", "RCPT TO:<get@b>", "NOOP ID", "get", "NOOP", "XCLIENT ADDR=1.2.3.4",
	} {
		if foreign(line) && line != "get" {
			t.Errorf("%q is", line)
		}
	}
}

func TestSplitPath(t *testing.T) {
	for _, c := range []struct{ arg, path, parameters string }{
		{"FROM:<>", "", ""},
		{"from:<a@b>", "a@b", ""},
		{"FROM: <a@b>  SIZE=1 BODY=8BITMIME", "a@b", "SIZE=1,BODY=8BITMIME"},
	} {
		path, parameters, ok := splitPath(c.arg, "FROM:")
		if got := strings.Join(parameters, ","); !ok || path != c.path || got != c.parameters {
			t.Errorf("%q: got %q, %q, %v", c.arg, path, got, ok)
		}
	}
	for _, arg := range []string{
		"", "<a@b>", "FROM:", "FROM:a@b", "FROM:<a@b", "FROM:<a@b>x", "FROM:<a@b>SIZE=1", "FROM:<a b@c>", "FROM:<<a@b>>",
		"FROM:\t<a@b>\tSIZE=1", "FROM:<" + strings.Repeat("a", 256) + "@b>",
	} {
		if path, _, ok := splitPath(arg, "FROM:"); ok {
			t.Errorf("%q: got %q", arg, path)
		}
	}
}

func TestCheckLine(t *testing.T) {
	for line, want := range map[string]error{
		"NOOP\r\n":              nil,
		"NOOP \tü\r\n":          nil,
		"NOOP\n":                errBadEnd,
		"NOOP\r\r\n":            errBadEnd,
		"NOOP\rQUIT\r\n":        errBadEnd,
		"NO\x00OP\r\n":          errControl,
		"\x1b[31m\r\n":          errControl,
		"NOOP\v\r\n":            errControl,
		"\x7f\r\n":              errControl,
		"\x16\x03\x01\x02\n":    errBadEnd,
		"\x16\x03\x01\x02\r\n":  errControl,
		"MAIL FROM:<a@b>\n\r\n": errBadEnd,
	} {
		if _, err := checkLine([]byte(line)); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", line, err, want)
		}
	}
}

// readDotted returns the message at the beginning of a stream, and what is
// left behind it.
func readDotted(in string, limit int64) (message, rest string, err error) {
	r := bufio.NewReader(strings.NewReader(in))
	b := newBody(&dotted{in: r}, limit)
	got, err := io.ReadAll(b)
	if b.finish() != nil {
		return string(got), "", io.ErrUnexpectedEOF
	}
	left, _ := io.ReadAll(r)
	return string(got), string(left), err
}

func TestDotted(t *testing.T) {
	for _, c := range []struct{ in, message string }{
		{".\r\nQUIT", ""},
		{"a\r\n.\r\nQUIT", "a\r\n"},
		{"\r\n.\r\nQUIT", "\r\n"},
		{"..\r\n...\r\n.a\r\n.\r\nQUIT", ".\r\n..\r\na\r\n"},
		{"a\r\n.\v\r\n.\r\nQUIT", "a\r\n\v\r\n"},
		{"a\r\n.\u0085\r\n.\r\nQUIT", "a\r\n\u0085\r\n"},
	} {
		message, rest, err := readDotted(c.in, 1000)
		if message != c.message || rest != "QUIT" || err != nil {
			t.Errorf("%q: got %q, %q, %v", c.in, message, rest, err)
		}
	}
}

// Whatever looks like an end of data to a careless server is refused, and the
// commands behind it are not commands.
func TestDottedSmuggling(t *testing.T) {
	for _, end := range []string{
		"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\x00.\r\n", "\n.\r", "\r\n.\r\r\n", "\r\r\n.\r\n\x00",
	} {
		message, rest, err := readDotted("a"+end+"MAIL FROM:<b>\r\n.\r\nQUIT", 1000)
		if !errors.Is(err, errBareLine) || rest != "QUIT" && !strings.HasPrefix(end, "\r\r\n.\r\n") {
			t.Errorf("%q: got %q, %q, %v", end, message, rest, err)
		}
	}
}

func TestDottedLimit(t *testing.T) {
	for n, want := range map[int]error{100: nil, 101: errTooBig} {
		_, rest, err := readDotted(strings.Repeat("x", n-2)+"\r\n.\r\nQUIT", 100)
		if !errors.Is(err, want) || rest != "QUIT" {
			t.Errorf("%d octets: got %q, %v", n, rest, err)
		}
	}
	endless := strings.NewReader(strings.Repeat("x", 5<<20))
	b := newBody(&dotted{in: bufio.NewReader(endless)}, 100)
	if err := b.finish(); !errors.Is(err, errTooBig) || endless.Len() < 3<<20 {
		t.Errorf("an endless message ends with %v, %d octets before its end", err, endless.Len())
	}
}

func FuzzDotted(f *testing.F) {
	f.Add("a\r\n..b\r\n.\r\nrest")
	f.Add("a\n.\r\nb\r\n.\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		message, rest, err := readDotted(in, 1<<20)
		end := strings.Index("\r\n"+in, "\r\n.\r\n")
		if end < 0 {
			if err == nil {
				t.Errorf("%q: got %q without an end", in, message)
			}
			return
		}
		if want := ("\r\n" + in)[end+len("\r\n.\r\n"):]; rest != want {
			t.Errorf("%q: left %q, want %q", in, rest, want)
		}
		clean := strings.ReplaceAll(message, "\r\n", "")
		if err == nil && strings.ContainsAny(clean, "\r\n\x00") {
			t.Errorf("%q: got %q", in, message)
		}
	})
}
