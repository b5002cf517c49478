package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// network is one of the test's own, with nothing in it but a loopback interface,
// on which every port is free, and with names of the test's choice.
type network struct {
	t    *testing.T
	dir  string
	join []string // the command that runs another one in it
}

// newNetwork makes a network in which names lead to 127.0.0.1.
func newNetwork(t *testing.T, names ...string) *network {
	t.Helper()
	n := &network{t: t, dir: t.TempDir()}
	hosts := filepath.Join(n.dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+strings.Join(names, " ")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("unshare", "--map-root-user", "--net", "--mount", "sh", "-ec",
		`ip link set lo up; mount --bind "$0" /etc/hosts; echo made; exec cat`, hosts)
	end, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	holder.Stderr = os.Stderr
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end.Close()
		_ = holder.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "made\n" {
		t.Fatalf("no network: %q, %v", line, err)
	}
	n.join = []string{"nsenter", "--target", strconv.Itoa(holder.Process.Pid), "--user", "--preserve-credentials", "--net", "--mount", "--"}
	return n
}

// gateway starts a gateway in the network.
func (n *network) gateway(config string) *gateway {
	n.t.Helper()
	g := gatewayIn(n.t, n.t.TempDir(), func(data string) string { return "data_dir: " + data + "\n" + config })
	g.program = filepath.Join(n.dir, "posthorn")
	script := fmt.Sprintf("#!/bin/sh\nexec %s '%s' \"$@\"\n", strings.Join(n.join, " "), binary)
	if err := os.WriteFile(g.program, []byte(script), 0o755); err != nil {
		n.t.Fatal(err)
	}
	g.launch()
	return g
}

// relay is a chatmail server without a CA's certificate, whose only port is 443.
const relay = `
domains: [_relay.example.test]
listen: {shared: ["127.0.0.1:443"], imaps: [], submissions: []}
signup: {domains: [_relay.example.test]}
`

// TestDeltaChatAutoconfig: Delta Chat is given an address and a password, or only
// a link, and finds its way by itself, through 443.
func TestDeltaChatAutoconfig(t *testing.T) {
	const domain = "_relay.example.test"
	n := newNetwork(t, domain, "autoconfig."+domain)
	g := n.gateway(relay)
	c := startCore(t, n.join...)

	const address = "alice@" + domain
	password := g.account(address)
	var a, b int
	c.call(&a, "add_account")
	c.call(nil, "add_or_update_transport", a, map[string]any{"addr": address, "password": password})

	c.call(&b, "add_account")
	c.call(nil, "add_transport_from_qr", b, "dcaccount:https://"+domain+"/new")
	var created string
	if c.call(&created, "get_config", b, "configured_addr"); !strings.HasSuffix(created, "@"+domain) {
		t.Fatalf("the new account is %q", created)
	}

	c.call(nil, "start_io_for_all_accounts")
	c.wait(a, "ImapInboxIdle")
	c.wait(b, "ImapInboxIdle")
	var vcard string
	c.call(&vcard, "make_vcard", b, []int{1}) // contact 1 is oneself
	var contacts []int
	c.call(&contacts, "import_vcard_contents", a, vcard)
	var chat int
	c.call(&chat, "create_chat_by_contact_id", a, contacts[0])
	c.call(nil, "misc_send_text_message", a, chat, "Hello, whoever you are.")
	c.expectText(b, c.wait(b, "IncomingMsg").Message, "Hello, whoever you are.")

	audit := g.posthorn("account", "list")
	if !strings.Contains(audit, created) {
		t.Errorf("%s is not in\n%s", created, audit)
	}
}
