package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthorn/client/clienttest"
)

// TestSendmailNetworks: what is handed to sendmail gets through each network that
// lets anything through, or waits and goes when there is another network; the
// caller is told which.
func TestSendmailNetworks(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	key := g.key(alice, "sendmail")
	const reset, silent = clienttest.Reset, clienttest.BlackHole
	closed := map[uint16]clienttest.Verdict{465: silent, 993: silent}
	mail := map[string]clienttest.Verdict{"imap": reset, "smtp": reset}
	for name, c := range map[string]struct {
		rules   clienttest.Rules
		proxy   func(*clienttest.Network) string
		reaches bool
	}{
		"open":                {reaches: true},
		"443 alone":           {rules: clienttest.Rules{Ports: closed}, reaches: true},
		"no mail ALPN":        {rules: clienttest.Rules{Ports: closed, ALPN: mail}, reaches: true},
		"the web alone":       {rules: clienttest.Rules{Ports: closed, ALPN: mail, NoALPN: silent}, reaches: true},
		"an HTTP proxy":       {rules: clienttest.Rules{OnlyProxies: silent}, proxy: httpProxy, reaches: true},
		"a SOCKS proxy":       {rules: clienttest.Rules{OnlyProxies: reset}, proxy: socksProxy, reaches: true},
		"cut after 2 KB":      {rules: clienttest.Rules{Bytes: 2000, BytesVerdict: reset}},
		"a captive portal":    {rules: clienttest.Rules{Ports: map[uint16]clienttest.Verdict{443: clienttest.BlockPage, 465: clienttest.BlockPage}}},
		"an inspecting proxy": {rules: clienttest.Rules{Inspect: &clienttest.Inspector{CA: clienttest.NewAuthority(t, "who inspects")}}},
		"nothing":             {rules: clienttest.Rules{Ports: map[uint16]clienttest.Verdict{443: reset, 465: silent}}},
	} {
		t.Run(name, func(t *testing.T) {
			n := clienttest.New(t, clienttest.Gateway{443: g.shared, 465: g.submissions}, c.rules)
			dir := t.TempDir()
			proxy := "none"
			ports := fmt.Sprintf("{shared: %s, submissions: %s}", port(n.Listen(443)), port(n.Listen(465)))
			if c.proxy != nil {
				proxy, ports = c.proxy(n), "{shared: 443, submissions: 465}"
			}
			config := filepath.Join(dir, "sendmail.yaml")
			text := fmt.Sprintf("host: localhost\naddress: 127.0.0.1\nports: %s\nproxy: %q\nmemory: none\ntimeout: 2s\nidentity: %s\nca: %s\nfrom: %s\n",
				ports, proxy, key, g.ca, alice)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			subject := strings.ReplaceAll(name, " ", "-")
			message := fmt.Sprintf("To: %s\nSubject: %s\n\n%s\n", alice, subject, strings.Repeat("text\n", 500))
			_, said, err := g.try(message, binary, "sendmail", "-ti", "-C", config)
			if code := exitCode(err); (code == 0) != c.reaches || code != 0 && code != 75 {
				t.Errorf("exit %d: %s", code, said)
			}
			if !c.reaches {
				_, said, err := g.try(message, binary, "sendmail", "-ti", "-C", config, "--queue", filepath.Join(dir, "queue"))
				if code := exitCode(err); code != 0 || !strings.HasPrefix(said, "queued as ") {
					t.Errorf("with a queue: exit %d: %s", code, said)
				}
				n.SetRules(clienttest.Rules{})
				g.run("", binary, "sendmail", "-q", "-C", config, "--queue", filepath.Join(dir, "queue"))
			}
			if all := g.subjects(key, "INBOX"); countOf(all, subject) != 1 {
				t.Errorf("%s is not there once: %v", subject, all)
			}
		})
	}
}

func httpProxy(n *clienttest.Network) string {
	return n.HTTPProxy(clienttest.Proxy{User: "u", Password: "p"}).String()
}

func socksProxy(n *clienttest.Network) string { return n.SOCKSProxy(clienttest.Proxy{}).String() }

func countOf(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}
