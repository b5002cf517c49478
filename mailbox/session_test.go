package mailbox_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthorn/mailbox"
)

// talk is an IMAP conversation, line by line.
type talk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func newTalk(t testing.TB, s *mailbox.Store, user string) *talk {
	t.Helper()
	conn := serve(t, s, user)
	conn.SetDeadline(time.Now().Add(time.Minute))
	c := &talk{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.line() // the greeting
	return c
}

// line reads a response, with its literals.
func (c *talk) line() string {
	c.t.Helper()
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("after %q: %v", b.String()+line, err)
		}
		b.WriteString(line)
		_, size, ok := strings.Cut(strings.TrimSuffix(line, "}\r\n"), "{")
		n, err := strconv.Atoi(size[strings.LastIndexByte(size, '{')+1:])
		if !ok || err != nil || !strings.HasSuffix(line, "}\r\n") {
			return strings.TrimSuffix(b.String(), "\r\n")
		}
		if _, err := io.CopyN(&b, c.r, int64(n)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// send sends a command and returns its tag.
func (c *talk) send(command string) string {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	if _, err := io.WriteString(c.conn, tag+" "+command+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	return tag
}

// do returns the untagged responses to a command, and the tagged one without
// its tag and text.
func (c *talk) do(command string) []string {
	c.t.Helper()
	tag := c.send(command)
	var lines []string
	for {
		line := c.line()
		rest, ok := strings.CutPrefix(line, tag+" ")
		if !ok {
			lines = append(lines, line)
			continue
		}
		status, text, _ := strings.Cut(rest, " ")
		if strings.HasPrefix(text, "[") {
			status += " " + text[:strings.IndexByte(text, ']')+1]
		}
		return append(lines, status)
	}
}

// want does a command and compares the responses.
func (c *talk) want(command string, want ...string) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.do(command)); diff != "" {
		c.t.Errorf("%s: %s", command, diff)
	}
}

// tagged does a command and compares the last response.
func (c *talk) tagged(command, want string) {
	c.t.Helper()
	lines := c.do(command)
	if got := lines[len(lines)-1]; got != want {
		c.t.Errorf("%s: %q, want %q", command, lines, want)
	}
}

// append sends an APPEND, and the message if the server wants it, and returns
// the tagged response without tag and text.
func (c *talk) append(mailbox, options, message string) string {
	c.t.Helper()
	tag := c.send(fmt.Sprintf("APPEND %s %s{%d}", mailbox, options, len(message)))
	line := c.line()
	if strings.HasPrefix(line, "+ ") {
		io.WriteString(c.conn, message+"\r\n")
		line = c.line()
	}
	for !strings.HasPrefix(line, tag+" ") {
		line = c.line()
	}
	status, text, _ := strings.Cut(strings.TrimPrefix(line, tag+" "), " ")
	if strings.HasPrefix(text, "[") {
		code, _, _ := strings.Cut(text[1:], "]")
		status += " " + strings.Fields(code)[0]
	}
	return status
}

const nested = "From: A <a@x.example>\r\nTo: b@y.example\r\nSubject: outer\r\nX-Long: one\r\n two\r\n" +
	"Content-Type: multipart/mixed; boundary=o\r\n\r\n" +
	"--o\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe=\r\n!\r\n" +
	"--o\r\nContent-Type: message/rfc822\r\nContent-ID: <i>\r\n\r\nSubject: inner\r\n\r\ninner body\r\n\r\n" +
	"--o\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\nREVG\r\n\r\n" +
	"--o\r\nContent-Type: application/y\r\nContent-Transfer-Encoding: x-none\r\n\r\n?\r\n--o--\r\n"

func TestFetchSections(t *testing.T) {
	s := open(t, mailbox.Options{})
	deliver(t, s, nested, "a")
	c := newTalk(t, s, "a")
	c.do("EXAMINE INBOX")
	header := nested[:strings.Index(nested, "\r\n\r\n")+4]
	lit := func(v string) string { return fmt.Sprintf("{%d}\r\n%s", len(v), v) }
	for _, tc := range []struct{ item, want string }{
		{"BODY.PEEK[]", "BODY[] " + lit(nested)},
		{"BODY.PEEK[HEADER]", "BODY[HEADER] " + lit(header)},
		{"BODY.PEEK[TEXT]", "BODY[TEXT] " + lit(nested[len(header):])},
		{"BODY.PEEK[1]", "BODY[1] " + lit("Gr=FC=DFe=\r\n!")},
		{"BODY.PEEK[1.MIME]", "BODY[1.MIME] " + lit("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")},
		{"BODY.PEEK[2]", "BODY[2] " + lit("Subject: inner\r\n\r\ninner body\r\n")},
		{"BODY.PEEK[2.HEADER]", "BODY[2.HEADER] " + lit("Subject: inner\r\n\r\n")},
		{"BODY.PEEK[2.TEXT]", "BODY[2.TEXT] " + lit("inner body\r\n")},
		{"BODY.PEEK[2.1]", "BODY[2.1] " + lit("inner body\r\n")},
		{"BODY.PEEK[2.HEADER.FIELDS (subject to)]", `BODY[2.HEADER.FIELDS ("subject" "to")] ` + lit("Subject: inner\r\n\r\n")},
		{"BODY.PEEK[1.HEADER]", "BODY[1.HEADER] " + lit("")},
		{"BODY.PEEK[5]", "BODY[5] " + lit("")},
		{"BODY.PEEK[1.1.1.1]", "BODY[1.1.1.1] " + lit("")},
		{"BODY.PEEK[HEADER.FIELDS (x-long SUBJECT none)]", `BODY[HEADER.FIELDS ("x-long" "SUBJECT" "none")] ` + lit("Subject: outer\r\nX-Long: one\r\n two\r\n\r\n")},
		{"BODY.PEEK[HEADER.FIELDS.NOT (x-long subject content-type)]", `BODY[HEADER.FIELDS.NOT ("x-long" "subject" "content-type")] ` + lit("From: A <a@x.example>\r\nTo: b@y.example\r\n\r\n")},
		{"BODY.PEEK[HEADER.FIELDS (Subject)]<9.5>", `BODY[HEADER.FIELDS ("Subject")]<9> ` + lit("outer")},
		{"BODY.PEEK[]<0.4>", "BODY[]<0> " + lit("From")},
		{"BODY.PEEK[]<6.9223372036854775807>", "BODY[]<6> " + lit(nested[6:])},
		{"BODY.PEEK[]<99999.10>", "BODY[]<99999> " + lit("")},
		{"BINARY.PEEK[1]", "BINARY[1] ~" + lit("Gr\xfc\xdfe!")},
		{"BINARY.PEEK[3]", "BINARY[3] ~" + lit("ABCDEF")},
		{"BINARY.SIZE[3]", "BINARY.SIZE[3] 6"},
		{"RFC822.SIZE", fmt.Sprintf("RFC822.SIZE %d", len(nested))},
		{"RFC822.HEADER", "RFC822.HEADER " + lit(header)},
	} {
		c.want("FETCH 1 "+tc.item, "* 1 FETCH ("+tc.want+")", "OK")
	}
	c.want("FETCH 1 BINARY.PEEK[4]", "NO [UNKNOWN-CTE]")
	c.want("FETCH 1 BODY.PEEK[]<0.0>", "BAD [CLIENTBUG]")
	c.tagged("FETCH 1 BODY.PEEK[]<4294967296.1>", "BAD [CLIENTBUG]")
	c.tagged("FETCH 1 (BODY.PEEK[]"+strings.Repeat(" BODY.PEEK[]", 1000)+")", "NO [LIMIT]")
	c.want("FETCH 1 (FLAGS)", `* 1 FETCH (FLAGS (\Recent))`, "OK")
}

func TestFlags(t *testing.T) {
	s := open(t, mailbox.Options{})
	for range 3 {
		deliver(t, s, hello, "a")
	}
	c := newTalk(t, s, "a")
	lines := strings.Join(c.do("SELECT INBOX"), "\n")
	for _, want := range []string{
		"* 3 EXISTS", "* 3 RECENT", "[UNSEEN 1]", "[UIDNEXT 4]",
		`* FLAGS (\Seen \Answered \Flagged \Deleted \Draft)`,
		`[PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft \*)]`, "OK [READ-WRITE]",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("SELECT lacks %s: %s", want, lines)
		}
	}
	c.want(`STORE 1 +FLAGS (\seen $Forwarded \Recent \Unknown)`, `* 1 FETCH (UID 1 FLAGS (\Seen $Forwarded \Recent))`,
		`* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $Forwarded)`, "OK")
	c.want(`STORE 1,3 FLAGS ($forwarded b A)`, `* 1 FETCH (UID 1 FLAGS ($Forwarded A b \Recent))`,
		`* 3 FETCH (UID 3 FLAGS ($Forwarded A b \Recent))`,
		`* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $Forwarded A b)`, "OK")
	c.want(`STORE 1:* -FLAGS (a)`, `* 1 FETCH (UID 1 FLAGS ($Forwarded b \Recent))`, `* 2 FETCH (UID 2 FLAGS (\Recent))`,
		`* 3 FETCH (UID 3 FLAGS ($Forwarded b \Recent))`, "OK")
	c.want(`UID STORE 2 +FLAGS.SILENT (\Deleted)`, "OK")
	c.want(`FETCH 2 BODY[HEADER.FIELDS (Subject)]`, `* 2 FETCH (FLAGS (\Seen \Deleted \Recent) BODY[HEADER.FIELDS ("Subject")] {18}`+"\r\nSubject: Hello\r\n\r\n)", "OK")
	c.want("EXPUNGE", "* 2 EXPUNGE", "OK")
	c.want("FETCH 1:* UID", "* 1 FETCH (UID 1)", "* 2 FETCH (UID 3)", "OK")
	c.want("STATUS INBOX (MESSAGES RECENT UIDNEXT UNSEEN DELETED SIZE)",
		fmt.Sprintf("* STATUS INBOX (MESSAGES 2 UIDNEXT 4 UNSEEN 2 DELETED 0 SIZE %d RECENT 0)", 2*len(hello)), "OK")

	c.do("EXAMINE INBOX")
	c.tagged(`STORE 1 +FLAGS (\Seen)`, "NO")
	c.tagged("EXPUNGE", "NO")
	c.tagged("MOVE 1 Trash", "NO")
	c.want("FETCH 1 (BODY[TEXT] FLAGS)", "* 1 FETCH (FLAGS ($Forwarded b) BODY[TEXT] {15}\r\nHello, world!\r\n)", "OK")
	c.want("CLOSE", "OK")
	c.tagged("FETCH 1 FLAGS", "BAD [CLIENTBUG]")
}

func TestKeywordLimits(t *testing.T) {
	s := open(t, mailbox.Options{})
	deliver(t, s, hello, "a")
	c := newTalk(t, s, "a")
	c.do("SELECT INBOX")
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("k%d", i))
	}
	c.tagged("STORE 1 +FLAGS.SILENT ("+strings.Join(many, " ")+")", "OK")
	c.tagged("STORE 1 +FLAGS.SILENT (onemore)", "NO [LIMIT]")
	c.tagged("STORE 1 FLAGS.SILENT (K1)", "OK")
	c.tagged("STORE 1 FLAGS.SILENT ("+strings.Repeat("x", 200)+")", "NO [LIMIT]")
	if lines := strings.Join(c.do("SELECT INBOX"), "\n"); strings.Contains(lines, `\*`) {
		t.Errorf("promises new keywords: %s", lines)
	}
}

func TestRecent(t *testing.T) {
	s := open(t, mailbox.Options{})
	deliver(t, s, hello, "a")
	one, two := newTalk(t, s, "a"), newTalk(t, s, "a")
	recent := func(c *talk, command, want string) {
		t.Helper()
		for _, line := range c.do(command) {
			if strings.HasSuffix(line, " RECENT") {
				if line != "* "+want+" RECENT" {
					t.Errorf("%s: %s, want %s", command, line, want)
				}
				return
			}
		}
		t.Errorf("%s: no RECENT", command)
	}
	recent(one, "EXAMINE INBOX", "1") // which changes nothing
	recent(one, "SELECT INBOX", "1")
	recent(two, "SELECT INBOX", "0")
	deliver(t, s, hello, "a")
	recent(one, "NOOP", "2")
	one.do("CLOSE")
	recent(one, "SELECT INBOX", "0")
}

func TestMailboxes(t *testing.T) {
	s := open(t, mailbox.Options{})
	c := newTalk(t, s, "a")
	c.want("CREATE Lists/go/dev", "OK")
	c.tagged("CREATE lists/../x", "NO [CANNOT]")
	for _, name := range []string{
		`"a//b"`, `"/a"`, `"a/./b"`, `".."`, `"a*"`, `"a%"`, `""`, `"/"`, `" a"`, `"a&AAA-"`, `"a&AAo-"`, `"a&IC4-b"`,
		`"` + strings.Repeat("x", 256) + `"`, strings.Repeat("a/", 30) + "b", `"&2AA-"`,
	} {
		if lines := c.do("CREATE " + name); strings.HasPrefix(lines[len(lines)-1], "OK") {
			t.Errorf("CREATE %s: %q", name, lines)
		}
	}
	c.tagged("CREATE inbox", "NO [ALREADYEXISTS]")
	c.tagged("CREATE InBox/x", "OK")
	c.tagged("CREATE Gr&APwA3w-e/", "OK")
	c.tagged("DELETE INBOX", "NO [CANNOT]")
	c.tagged("DELETE Lists", "NO [HASCHILDREN]")
	c.tagged("DELETE none", "NO [NONEXISTENT]")
	c.tagged("RENAME none x", "NO [NONEXISTENT]")
	c.tagged("RENAME Lists Lists/x", "NO [CANNOT]")
	c.tagged("RENAME Lists Sent", "NO [ALREADYEXISTS]")
	c.tagged("RENAME Lists Old/Lists", "OK")
	c.want(`LIST "" "Old*"`, `* LIST (\HasChildren) "/" "Old"`, `* LIST (\HasChildren) "/" "Old/Lists"`,
		`* LIST (\HasChildren) "/" "Old/Lists/go"`, `* LIST (\HasNoChildren) "/" "Old/Lists/go/dev"`, "OK")
	c.want(`LIST Old %`, `* LIST (\HasChildren) "/" "Old/Lists"`, "OK")
	c.want(`LIST "" ""`, `* LIST (\Noselect) "/" ""`, "OK")
	c.want(`LIST "" "inbox"`, `* LIST (\HasChildren) "/" INBOX`, "OK")
	c.want(`LIST "" Gr*`, `* LIST (\HasNoChildren) "/" "Gr&APwA3w-e"`, "OK")
	c.want(`LIST "" (Sent "%/%/%")`, `* LIST (\HasChildren) "/" "Old/Lists/go"`, `* LIST (\HasNoChildren \Sent) "/" "Sent"`, "OK")
	c.want(`LIST (SPECIAL-USE) "" "*n*"`, `* LIST (\HasNoChildren \Junk) "/" "Junk"`, `* LIST (\HasNoChildren \Sent) "/" "Sent"`, "OK")
	c.want(`LIST "" Sent RETURN (STATUS (MESSAGES UIDNEXT))`, `* LIST (\HasNoChildren \Sent) "/" "Sent"`,
		`* STATUS "Sent" (MESSAGES 0 UIDNEXT 1)`, "OK")
	c.want("SUBSCRIBE Old/Lists/go", "OK")
	c.tagged("SUBSCRIBE none", "NO [NONEXISTENT]")
	c.want("UNSUBSCRIBE Sent", "OK")
	c.want(`LSUB "" "*s*"`, `* LSUB (\Subscribed \HasNoChildren \Drafts) "/" "Drafts"`,
		`* LSUB (\Subscribed \HasChildren) "/" "Old/Lists/go"`, `* LSUB (\Subscribed \HasNoChildren \Trash) "/" "Trash"`, "OK")
	c.want(`LIST (SUBSCRIBED RECURSIVEMATCH) "" "Old"`, `* LIST (\HasChildren) "/" "Old" (CHILDINFO ("SUBSCRIBED"))`, "OK")
	c.tagged("DELETE Old/Lists/go/dev", "OK")
	c.tagged("DELETE Old/Lists/go", "OK")
	c.want(`LIST (SUBSCRIBED) "" "Old*"`, `* LIST (\Subscribed \NonExistent \HasNoChildren) "/" "Old/Lists/go"`, "OK")
	c.tagged(`CREATE Elsewhere (USE (\Sent))`, "NO [USEATTR]")
	c.tagged(`CREATE Everything (USE (\All))`, "NO [USEATTR]")
	c.tagged(`DELETE Sent`, "OK")
	c.tagged(`CREATE Gesendet (USE (\sent))`, "OK")
	c.want(`LIST "" G*t`, `* LIST (\HasNoChildren \Sent) "/" "Gesendet"`, "OK")
	c.want("NAMESPACE", `* NAMESPACE (("" "/")) NIL NIL`, "OK")
}

func TestManyMailboxes(t *testing.T) {
	s := open(t, mailbox.Options{})
	c := newTalk(t, s, "a")
	long := strings.Repeat("x", 245)
	for i := range 493 { // six are there, and the parent
		c.want(fmt.Sprintf("CREATE a/%s%d", long, i), "OK")
		c.want(fmt.Sprintf("SUBSCRIBE a/%s%d", long, i), "OK")
	}
	c.want("CREATE b", "NO [LIMIT]")
	c.want(fmt.Sprintf("SUBSCRIBE a/%s%d", long, 0), "OK") // again
	start := time.Now()
	c.want("RENAME a c", "OK")
	c.want(`LIST "" "`+strings.Repeat("*a", 100)+`"`, "OK")
	c.want(`LIST "" "`+strings.Repeat("%", 500)+`z"`, "OK")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if err := s.RemoveUser(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// TestManyKeywords makes messages whose flags take much room.
func TestManyKeywords(t *testing.T) {
	s := open(t, mailbox.Options{})
	for range 1200 {
		deliver(t, s, hello, "a")
	}
	c := newTalk(t, s, "a")
	c.do("SELECT INBOX")
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("%s%02d", strings.Repeat("k", 98), i))
	}
	c.tagged("STORE 1:* FLAGS.SILENT ("+strings.Join(many, " ")+")", "OK")
	c.want("SEARCH RETURN (COUNT) KEYWORD "+many[99], `* ESEARCH (TAG "t3") COUNT 1200`, "OK")
	if lines := c.do("COPY 1:* Archive"); !strings.HasPrefix(lines[len(lines)-1], "OK [COPYUID ") {
		t.Errorf("COPY: %q", lines[len(lines)-1])
	}
	c.tagged("MOVE 1:* Archive", "OK")
	c.want("STATUS Archive (MESSAGES)", `* STATUS "Archive" (MESSAGES 2400)`, "OK")
	c.want("DELETE Archive", "OK")
	if n, _ := s.CountKeys('b'); n != 0 {
		t.Errorf("%d blobs left", n)
	}
}

func TestManyRecipients(t *testing.T) {
	s := open(t, mailbox.Options{})
	users := make([]string, 1000)
	for i := range users {
		users[i] = fmt.Sprintf("%s%d", strings.Repeat("u", 20), i)
	}
	deliver(t, s, hello, users...)
	for _, user := range []string{users[0], users[999]} {
		if _, n, err := s.Usage(t.Context(), user); n != 1 || err != nil {
			t.Error(n, err)
		}
	}
	if n, _ := s.CountKeys('b'); n != 1 {
		t.Errorf("%d blobs", n)
	}
}

func TestUIDValidity(t *testing.T) {
	s := open(t, mailbox.Options{})
	c := newTalk(t, s, "a")
	validity := func() string { return strings.Join(c.do("STATUS x (UIDVALIDITY)"), " ") }
	seen := map[string]bool{}
	for range 5 {
		c.want("CREATE x", "OK")
		v := validity()
		if seen[v] || v != validity() {
			t.Errorf("not new, or not stable: %s", v)
		}
		seen[v] = true
		c.want("DELETE x", "OK")
	}
	c.want("CREATE y", "OK")
	c.want("RENAME y x", "OK")
	if v := validity(); seen[v] {
		t.Errorf("not new: %s", v)
	}
}

func TestRenameInbox(t *testing.T) {
	s := open(t, mailbox.Options{})
	c := newTalk(t, s, "a")
	c.do("CREATE INBOX/sub")
	for range 3 {
		deliver(t, s, hello, "a")
	}
	c.do("SELECT INBOX")
	c.want("STORE 2 +FLAGS.SILENT (\\Flagged)", "OK")
	c.want("RENAME INBOX Old", "* 3 EXPUNGE", "* 2 EXPUNGE", "* 1 EXPUNGE", "OK")
	c.want("STATUS INBOX (MESSAGES UIDNEXT)", "* STATUS INBOX (MESSAGES 0 UIDNEXT 4)", "OK")
	c.want("STATUS Old (MESSAGES UNSEEN)", `* STATUS "Old" (MESSAGES 3 UNSEEN 3)`, "OK")
	c.want("STATUS INBOX/sub (MESSAGES)", `* STATUS "INBOX/sub" (MESSAGES 0)`, "OK")
	c.tagged("RENAME INBOX Old", "NO [ALREADYEXISTS]")
	c.do("SELECT Old")
	c.want("SEARCH FLAGGED", "* SEARCH 2", "OK")
}

func TestCopyAndMove(t *testing.T) {
	s := open(t, mailbox.Options{})
	deliver(t, s, hello, "a")
	deliver(t, s, nested, "a")
	if err := s.Deliver(t.Context(), []string{"a"}, newMessage(1<<20, io.EOF)); err != nil {
		t.Fatal(err)
	}
	c := newTalk(t, s, "a")
	uid := strings.TrimSuffix(strings.TrimPrefix(c.do("STATUS Archive (UIDVALIDITY)")[0], `* STATUS "Archive" (UIDVALIDITY `), ")")
	c.do("SELECT INBOX")
	c.tagged("COPY 1 None", "NO [TRYCREATE]")
	c.tagged("MOVE 1 None", "NO [TRYCREATE]")
	c.want("UID COPY 100:200 Archive", "OK")
	c.want("UID MOVE 100:200 Archive", "OK")
	c.want("STORE 2 FLAGS.SILENT (\\Flagged kw)", "* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft kw)", "OK")
	c.want("COPY 2:3 Archive", "OK [COPYUID "+uid+" 2:3 1:2]")
	c.want("MOVE 2,1 Archive", "* OK [COPYUID "+uid+" 1:2 3:4] COPY completed", "* 2 EXPUNGE", "* 1 EXPUNGE", "OK")
	validity := strings.TrimSuffix(strings.TrimPrefix(c.do("STATUS INBOX (UIDVALIDITY)")[0], "* STATUS INBOX (UIDVALIDITY "), ")")
	c.want("COPY 1 INBOX", "* 2 EXISTS", "* 2 RECENT", "OK [COPYUID "+validity+" 3 4]")
	c.want("MOVE 1 INBOX", "* OK [COPYUID "+validity+" 3 5] COPY completed", "* 1 EXPUNGE", "* 2 EXISTS", "* 2 RECENT", "OK")
	c.do("SELECT Archive")
	c.want("FETCH 1:* (FLAGS RFC822.SIZE)",
		fmt.Sprintf(`* 1 FETCH (FLAGS (\Flagged kw \Recent) RFC822.SIZE %d)`, len(nested)),
		`* 2 FETCH (FLAGS (\Recent) RFC822.SIZE 1048576)`,
		fmt.Sprintf(`* 3 FETCH (FLAGS (\Recent) RFC822.SIZE %d)`, len(hello)),
		fmt.Sprintf(`* 4 FETCH (FLAGS (\Flagged kw \Recent) RFC822.SIZE %d)`, len(nested)), "OK")
	if n, _ := s.CountKeys('b'); n != 3 {
		t.Errorf("%d blobs for three messages", n)
	}
	if bytes, n, _ := s.Usage(t.Context(), "a"); n != 6 || bytes != 3<<20+2*int64(len(nested))+int64(len(hello)) {
		t.Errorf("%d octets in %d messages", bytes, n)
	}
	c.want("STORE 1:* +FLAGS.SILENT (\\Deleted)", "OK")
	c.want("CLOSE", "OK")
	c.do("SELECT INBOX")
	c.want("UID STORE 4 +FLAGS.SILENT (\\Deleted)", "OK")
	c.want("UID EXPUNGE 5", "OK")
	c.want("UID EXPUNGE 1:*", "* 1 EXPUNGE", "OK")
	c.want("FETCH 1 RFC822.SIZE", "* 1 FETCH (RFC822.SIZE 1048576)", "OK")
	if n, _ := s.CountKeys('b'); n != 1 {
		t.Errorf("%d blobs for one message", n)
	}
}

func TestAppend(t *testing.T) {
	s := open(t, mailbox.Options{MaxMessageSize: 1000, Quota: 2500})
	c := newTalk(t, s, "a")
	wantAppend := func(mailbox, options, message, want string) {
		t.Helper()
		if got := c.append(mailbox, options, message); got != want {
			t.Errorf("APPEND %s of %d octets: %s, want %s", mailbox, len(message), got, want)
		}
	}
	wantAppend("Drafts", `(\Draft kw) "07-Feb-1994 21:52:25 -0800" `, hello, "OK APPENDUID")
	wantAppend("None", "", hello, "NO TRYCREATE")
	c.do("SELECT Drafts")
	c.want("FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[TEXT])",
		"* 1 FETCH (FLAGS (\\Draft kw \\Recent) INTERNALDATE \" 7-Feb-1994 21:52:25 -0800\" BODY[TEXT] {15}\r\nHello, world!\r\n)", "OK")
	wantAppend("Drafts", "", strings.Repeat("x", 1000), "OK APPENDUID")
	wantAppend("Drafts", "", strings.Repeat("y", 1000), "OK APPENDUID")
	c.want("SEARCH ALL", "* SEARCH 1 2 3", "OK")
	wantAppend("Drafts", "", strings.Repeat("z", 900), "NO OVERQUOTA")
	wantAppend("Drafts", "", strings.Repeat("z", 1001), "NO TOOBIG")
	c.want("COPY 2:3 Trash", "NO [OVERQUOTA]")
	c.want("STATUS Trash (MESSAGES UIDNEXT)", `* STATUS "Trash" (MESSAGES 0 UIDNEXT 1)`, "OK")
	if lines := c.do("MOVE 2 Trash"); lines[len(lines)-1] != "OK" {
		t.Errorf("moving needs no quota: %q", lines)
	}
	c.send("APPEND Drafts {100}")
	c.line()
	io.WriteString(c.conn, "cut off")
	c.conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c.conn)
	if _, n, _ := s.Usage(t.Context(), "a"); n != 3 {
		t.Errorf("%d messages after one was cut off", n)
	}
	if used, limit, exists, err := s.Quota(t.Context(), "a", "Trash"); used < 2000 || limit != 2500 || !exists || err != nil {
		t.Error(used, limit, exists, err)
	}
	if _, _, exists, err := s.Quota(t.Context(), "a", "None"); exists || err != nil {
		t.Error(exists, err)
	}
}

func TestTwoSessions(t *testing.T) {
	s := open(t, mailbox.Options{})
	for range 4 {
		deliver(t, s, hello, "a")
	}
	one, two := newTalk(t, s, "a"), newTalk(t, s, "a")
	one.do("SELECT INBOX")
	two.do("SELECT INBOX")
	one.want("STORE 1 +FLAGS.SILENT (\\Seen)", "OK")
	two.want("NOOP", `* 1 FETCH (UID 1 FLAGS (\Seen))`, "OK")
	one.want("NOOP", "OK")
	one.want("STORE 2:3 +FLAGS.SILENT (\\Deleted)", "OK")
	one.want("EXPUNGE", "* 3 EXPUNGE", "* 2 EXPUNGE", "OK")
	// The other session still counts four, and hears of nothing that would
	// change its numbers during FETCH, STORE and SEARCH.
	two.want("FETCH 1:* UID", "* 1 FETCH (UID 1)", "* 4 FETCH (UID 4)", "OK")
	deliver(t, s, hello, "a")
	two.want("SEARCH ALL", "* SEARCH 1 4", "OK")
	two.want("STORE 4 +FLAGS.SILENT (\\Flagged)", "OK")
	one.want("NOOP", "* 3 EXISTS", "* 3 RECENT", `* 2 FETCH (UID 4 FLAGS (\Flagged \Recent))`, "OK")
	two.want("NOOP", "* 3 EXPUNGE", "* 2 EXPUNGE", "* 3 EXISTS", "* 1 RECENT", "OK")

	tag := two.send("IDLE")
	if line := two.line(); line != "+ idling" {
		t.Fatal(line)
	}
	one.want("STORE 1 FLAGS.SILENT (kw)", "* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft kw)", "OK")
	if line := two.line(); line != `* FLAGS (\Seen \Answered \Flagged \Deleted \Draft kw)` {
		t.Error(line)
	}
	if line := two.line(); line != `* 1 FETCH (UID 1 FLAGS (kw))` {
		t.Error(line)
	}
	one.tagged("UID MOVE 1 Archive", "OK")
	if line := two.line(); line != "* 1 EXPUNGE" {
		t.Error(line)
	}
	io.WriteString(two.conn, "DONE\r\n")
	if line := two.line(); !strings.HasPrefix(line, tag+" OK") {
		t.Error(line)
	}
}
