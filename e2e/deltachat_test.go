package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// TestDeltaChat has two Delta Chat users talk: they log in with passwords,
// alice on the shared port by ALPN and bob on the dedicated ports, and hear of
// new mail from IDLE alone (the core asks again only after minutes).
func TestDeltaChat(t *testing.T) {
	g := newGateway(t, "")
	alicePassword, bobPassword := g.account(alice), g.account(bob)
	bobKey := g.key(bob, "watcher")
	c := startCore(t)
	a := c.account(alice, alicePassword, g.shared, g.shared)
	// A user of several devices leaves mail on the server.
	b := c.account(bob, bobPassword, g.imaps, g.submissions)
	c.call(nil, "set_config", b, "bcc_self", "1")
	gone := g.expunges(bobKey)
	c.call(nil, "start_io_for_all_accounts")
	// What lies in an INBOX at the first visit is history and not shown.
	c.wait(a, "ImapInboxIdle")
	c.wait(b, "ImapInboxIdle")

	var vcard string
	c.call(&vcard, "make_vcard", b, []int{1}) // contact 1 is oneself
	var contacts []int
	c.call(&contacts, "import_vcard_contents", a, vcard)
	var chat int
	c.call(&chat, "create_chat_by_contact_id", a, contacts[0])

	var sent int
	c.call(&sent, "misc_send_text_message", a, chat, "Hello Bob.")
	hello := c.wait(b, "IncomingMsg")
	c.expectText(b, hello.Message, "Hello Bob.")
	c.call(nil, "accept_chat", b, hello.Chat)
	c.call(nil, "markseen_msgs", b, []int{hello.Message})
	if read := c.wait(a, "MsgRead"); read.Message != sent {
		t.Errorf("message %d was reported read, not %d", read.Message, sent)
	}

	c.call(nil, "misc_send_text_message", b, hello.Chat, "Hello Alice.")
	c.expectText(a, c.wait(a, "IncomingMsg").Message, "Hello Alice.")

	c.call(nil, "delete_messages", b, []int{hello.Message})
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Error("the message that bob deleted is still on the server")
	}
	for account, address := range map[int]string{a: alice, b: bob} {
		var connectivity int
		if c.call(&connectivity, "get_connectivity", account); connectivity < 3000 {
			t.Errorf("%s is not connected any more: %d", address, connectivity)
		}
	}
}

// expunges selects the INBOX of the account whose key is in pemFile, idles,
// and tells of every message that disappears from it.
func (g *gateway) expunges(pemFile string) <-chan uint32 {
	g.t.Helper()
	gone := make(chan uint32, 100)
	c := imapclient.New(g.dial(pemFile, "imap"), &imapclient.Options{
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{Expunge: func(n uint32) { gone <- n }},
	})
	g.t.Cleanup(func() { c.Close() })
	if err := c.WaitGreeting(); err != nil {
		g.t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		g.t.Fatal(err)
	}
	if _, err := c.Idle(); err != nil {
		g.t.Fatal(err)
	}
	return gone
}

// core is a running Delta Chat core, the program below every Delta Chat app,
// which is told what to do by JSON-RPC on its standard streams.
type core struct {
	t    *testing.T
	in   *json.Encoder
	out  *json.Decoder
	host string // where the servers are, as name or address
	last int    // ID of the last call

	unseen []coreEvent // read while others were waited for
}

type coreEvent struct {
	Account int `json:"contextId"`
	Event   struct {
		Kind    string
		Chat    int    `json:"chatId"`
		Message int    `json:"msgId"`
		Text    string `json:"msg"` // of a log line
	}
}

// startCore runs a core for at most a minute, by way of a command if one is given.
func startCore(t *testing.T, through ...string) *core {
	t.Helper()
	found, err := filepath.Glob("deltachat/node_modules/@deltachat/*/deltachat-rpc-server")
	if err != nil || len(found) == 0 {
		t.Fatal("deltachat-rpc-server is not there: .ci/test installs it")
	}
	program, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	command := append(slices.Clone(through), program)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "DC_ACCOUNTS_PATH="+filepath.Join(t.TempDir(), "accounts"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		deadline.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &core{t: t, host: "localhost", in: json.NewEncoder(stdin), out: json.NewDecoder(stdout)}
}

// call calls a method and waits for its result, which goes into result unless
// that is nil.
func (c *core) call(result any, method string, params ...any) {
	c.t.Helper()
	c.last++
	if params == nil {
		params = []any{}
	}
	request := map[string]any{"jsonrpc": "2.0", "id": c.last, "method": method, "params": params}
	if err := c.in.Encode(request); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	var answer struct {
		ID     int
		Result json.RawMessage
		Error  json.RawMessage
	}
	if err := c.out.Decode(&answer); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	if answer.ID != c.last || answer.Error != nil {
		c.t.Fatalf("%s: call %d was answered as %d with error %s", method, c.last, answer.ID, answer.Error)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
}

// account sets an address up, which logs in to IMAP and submission at once.
func (c *core) account(address, password, imap, submission string) (id int) {
	c.t.Helper()
	c.call(&id, "add_account")
	c.call(nil, "add_or_update_transport", id, map[string]any{
		"addr": address, "password": password,
		"imapServer": c.host, "imapPort": number(imap), "imapSecurity": "ssl",
		"smtpServer": c.host, "smtpPort": number(submission), "smtpSecurity": "ssl",
		"certificateChecks": "acceptInvalidCertificates",
	})
	return id
}

func number(address string) int {
	n, _ := strconv.Atoi(port(address))
	return n
}

// wait returns an account's next event of a kind.
func (c *core) wait(account int, kind string) (e struct{ Chat, Message int }) {
	c.t.Helper()
	wanted := func(e coreEvent) bool { return e.Account == account && e.Event.Kind == kind }
	for {
		if i := slices.IndexFunc(c.unseen, wanted); i >= 0 {
			e.Chat, e.Message = c.unseen[i].Event.Chat, c.unseen[i].Event.Message
			c.unseen = slices.Delete(c.unseen, i, i+1)
			return e
		}
		var next coreEvent
		c.call(&next, "get_next_event")
		if next.Event.Kind == "Error" || next.Event.Kind == "Warning" {
			c.t.Logf("Delta Chat's account %d: %s", next.Account, next.Event.Text)
		}
		c.unseen = append(c.unseen, next)
	}
}

func (c *core) expectText(account, message int, want string) {
	c.t.Helper()
	var got struct{ Text string }
	c.call(&got, "get_message", account, message)
	if got.Text != want {
		c.t.Errorf("account %d was sent %q, not %q", account, got.Text, want)
	}
}
