package e2e

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"posthorn/backend/backendtest"
)

// recipe is an example of how to put Posthorn before other servers, started
// from its very files in examples/, on a machine that is there in little.
type recipe struct {
	*gateway
	d *backendtest.Dovecot
	p *backendtest.Postfix
}

// replaced reads a file and replaces what is different here, all of which must
// be in it.
func replaced(t testing.TB, name string, pairs ...string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s has no %q", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// masterSecret does what the recipes' first step does, and returns Posthorn's
// file and the text of Dovecot's.
func masterSecret(t testing.TB) (file, hashed string) {
	t.Helper()
	secret := rand.Text()
	out, err := exec.Command("doveadm", "pw", "-s", "SSHA256", "-p", secret).Output()
	if err != nil {
		t.Fatal(err)
	}
	return secretFile(t, secret), "posthorn:" + string(out)
}

func put(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func portOf(address string) string { return "port = " + port(address) }

// startDovecotPostfix follows examples/dovecot-postfix.
func startDovecotPostfix(t testing.TB) *recipe {
	t.Helper()
	const dir, base = "../examples/dovecot-postfix/", "testdata/dovecot-postfix/"
	secret, hashed := masterSecret(t)
	var d *backendtest.Dovecot
	p := backendtest.StartPostfix(t, backendtest.PostfixOptions{
		Config: func(p *backendtest.Postfix) (main, master string) {
			senders := put(t, filepath.Join(p.Dir, "posthorn.senders"), replaced(t, dir+"posthorn.senders"))
			main = replaced(t, base+"main.cf", "DIR", p.Dir) + replaced(t, dir+"main.cf", "/etc/postfix/posthorn.senders", senders)
			master = replaced(t, "testdata/master.cf") + replaced(t, dir+"master.cf", "127.0.0.1:10587", p.Plain)
			return main, master
		},
		Before: func(p *backendtest.Postfix) {
			queue := filepath.Join(p.Dir, "queue")
			d = backendtest.StartDovecot(t, backendtest.DovecotOptions{
				Users: map[string]string{"alice@example.org": alicePassword, "bob@example.org": bobPassword},
				Config: func(d *backendtest.Dovecot) string {
					return replaced(t, base+"dovecot.conf", "DIR", d.Dir, "QUEUE", queue, "CERT", d.CertFile, "KEY", d.KeyFile) +
						replaced(t, dir+"dovecot.conf", "port = 10143", portOf(d.Plain),
							"/etc/dovecot/posthorn.master", put(t, filepath.Join(d.Dir, "posthorn.master"), hashed),
							"/var/spool/postfix", queue)
				},
			})
		},
	})
	_, cert, key := d.Authority.Issue(t, "mail.example.org", "imap.example.org", "smtp.example.org")
	g := gatewayIn(t, t.TempDir(), func(data string) string {
		return replaced(t, dir+"posthorn.yaml", "/var/lib/posthorn", data,
			`":443"`, `"127.0.0.1:0"`, `":993"`, `"127.0.0.1:0"`, `":465"`, `"127.0.0.1:0"`,
			"/etc/letsencrypt/live/mail.example.org/fullchain.pem", cert, "/etc/letsencrypt/live/mail.example.org/privkey.pem", key,
			"/etc/posthorn/master.secret", secret, "127.0.0.1:10143", d.Plain, "127.0.0.1:10587", p.Plain)
	})
	g.name = "mail.example.org"
	g.start()
	return &recipe{g, d, p}
}

// TestDovecotPostfix: the recipe for one machine.
func TestDovecotPostfix(t *testing.T) {
	t.Parallel()
	r := startDovecotPostfix(t)
	r.serves("alice@example.org", alicePassword, "bob@example.org", bobPassword)
}

// serves lives through what the users of a recipe do: alice, whom Posthorn does
// not know, logs in with her password, gets a key, and writes to bob.
func (r *recipe) serves(alice, alicePassword, bob, bobPassword string) {
	t := r.t
	t.Helper()
	if list := r.posthorn("backend", "list"); strings.Count(list, " up ") < 3 {
		t.Errorf("backend list says\n%s", list)
	}
	from := source()
	c := r.imapOf("", from)
	c.do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword), "OK [CAPABILITY ")
	r.d.Await(t, "user=<"+alice+">, method=PLAIN, rip="+from+",")
	r.imapOf("").do(fmt.Sprintf("LOGIN %q %q", alice, alicePassword+"!"), "NO [AUTHENTICATIONFAILED]")
	if list := r.posthorn("account", "list"); !strings.Contains(list, alice) {
		t.Errorf("the first login made no account:\n%s", list)
	}

	from = source()
	s := r.smtpOf("", from)
	s.ask("AUTH PLAIN "+base64Of("\x00"+alice+"\x00"+alicePassword), "235")
	s.ask("MAIL FROM:<"+alice+">", "250")
	s.ask("RCPT TO:<"+bob+">", "250")
	s.data(letter(alice, bob, "by password", "Hello."), "250")
	r.p.Await(t, "["+from+"], sasl_method=PLAIN, sasl_username="+alice)

	pemFile := r.key(alice, "laptop")
	r.submit(pemFile, alice, bob, letter(alice, bob, "by key", "Hello."))
	from = source()
	r.imapOf(pemFile, from).do("SELECT INBOX", "OK")
	r.d.Await(t, "rip="+from+",")
	s = r.smtpOf(pemFile)
	s.ask("MAIL FROM:<"+bob+">", "550 5.7.1")

	b := r.loggedIn(bob, bobPassword)
	eventually(t, "bob has both", func() bool {
		b.do("SELECT INBOX", "OK")
		return strings.HasPrefix(b.do("SEARCH SUBJECT \"by \"", "OK"), "* SEARCH 1 2")
	})
}

// startChatmail follows examples/chatmail, but for the site.
func startChatmail(t testing.TB, site string) *recipe {
	t.Helper()
	const dir, base = "../examples/chatmail/", "testdata/chatmail/"
	secret, hashed := masterSecret(t)
	var d *backendtest.Dovecot
	p := backendtest.StartPostfix(t, backendtest.PostfixOptions{
		Config: func(p *backendtest.Postfix) (main, master string) {
			put(t, filepath.Join(p.Dir, "login_map"), "/^(.*)$/ ${1}\n")
			main = replaced(t, base+"main.cf", "DIR", p.Dir, "CERT", p.CertFile, "KEY", p.KeyFile)
			// What filtermail would let pass goes straight to where it hands it in.
			reinject := fmt.Sprintf("127.0.0.1:%d", backendtest.Port(t))
			master = replaced(t, "testdata/master.cf") +
				replaced(t, base+"master.cf", "127.0.0.1:REINJECT", reinject, "SMTPS", fmt.Sprint(backendtest.Port(t))) +
				replaced(t, dir+"master.cf", "127.0.0.1:10465", p.Plain, "127.0.0.1:10080", backendtest.StartRelay(t, reinject).Address)
			return main, master
		},
		Before: func(p *backendtest.Postfix) {
			queue := filepath.Join(p.Dir, "queue")
			d = backendtest.StartDovecot(t, backendtest.DovecotOptions{Config: func(d *backendtest.Dovecot) string {
				put(t, filepath.Join(d.Dir, "posthorn.conf"), replaced(t, dir+"dovecot.conf", "port = 10143", portOf(d.Plain),
					"/etc/dovecot/posthorn.master", put(t, filepath.Join(d.Dir, "posthorn.master"), hashed)))
				return replaced(t, base+"dovecot.conf", "DIR", d.Dir, "QUEUE", queue, "CERT", d.CertFile, "KEY", d.KeyFile, "IMAPS", port(d.TLS))
			}})
		},
	})
	_, cert, key := d.Authority.Issue(t, "example.org", "www.example.org", "mta-sts.example.org")
	g := gatewayIn(t, t.TempDir(), func(data string) string {
		return replaced(t, dir+"posthorn.yaml", "/var/lib/posthorn", data, `":443"`, `"127.0.0.1:0"`,
			"/var/lib/acme/live/example.org/fullchain", cert, "/var/lib/acme/live/example.org/privkey", key,
			"/etc/posthorn/master.secret", secret, "127.0.0.1:10143", d.Plain, "127.0.0.1:10465", p.Plain, "127.0.0.1:8443", site)
	})
	g.name = "example.org"
	g.start()
	return &recipe{g, d, p}
}

// TestChatmail: on a relay, users come into being as before, and can have keys
// besides.
func TestChatmail(t *testing.T) {
	t.Parallel()
	r := startChatmail(t, "127.0.0.1:1")
	const alice, bob = "alice.abc@example.org", "bob.12345@example.org"
	if r.d.Created(alice) {
		t.Fatal("there before her first login")
	}
	r.loggedIn(bob, bobPassword).do("LOGOUT", "OK")
	r.serves(alice, alicePassword, bob, bobPassword)
	if !r.d.Created(alice) {
		t.Error("Dovecot has not created alice")
	}
	r.imapOf("").do(fmt.Sprintf("LOGIN short@example.org %q", alicePassword), "NO [AUTHENTICATIONFAILED]")
	if list := r.posthorn("account", "list"); strings.Contains(list, "short@") {
		t.Errorf("a refused login made an account:\n%s", list)
	}
}

// TestChatmailDeltaChat: two users of Delta Chat, whom nobody knows yet, sign
// up at a relay by logging in, and talk.
func TestChatmailDeltaChat(t *testing.T) {
	t.Parallel()
	r := startChatmail(t, "127.0.0.1:1")
	c := startCore(t)
	c.host = "127.0.0.1"
	a := c.account("alice.abc@example.org", alicePassword, r.shared, r.shared)
	b := c.account("bob.12345@example.org", bobPassword, r.shared, r.shared)
	c.call(nil, "start_io_for_all_accounts")
	c.wait(a, "ImapInboxIdle")
	c.wait(b, "ImapInboxIdle")
	var vcard string
	c.call(&vcard, "make_vcard", b, []int{1}) // contact 1 is oneself
	var contacts []int
	c.call(&contacts, "import_vcard_contents", a, vcard)
	var chat int
	c.call(&chat, "create_chat_by_contact_id", a, contacts[0])
	c.call(nil, "misc_send_text_message", a, chat, "Hello Bob.")
	hello := c.wait(b, "IncomingMsg")
	c.expectText(b, hello.Message, "Hello Bob.")
	c.call(nil, "accept_chat", b, hello.Chat)
	c.call(nil, "misc_send_text_message", b, hello.Chat, "Hello Alice.")
	c.expectText(a, c.wait(a, "IncomingMsg").Message, "Hello Alice.")
}

// TestChatmailSite: the relay's site is reached through Posthorn, and knows its
// visitors' addresses.
func TestChatmailSite(t *testing.T) {
	t.Parallel()
	r := startChatmail(t, startRelaySite(t))
	from := source()
	visit := func(host string) *peer {
		config := r.tlsConfig("", "http/1.1")
		config.ServerName = host
		return r.secure(r.shared, config, from)
	}
	ask := func(host, request, want string) string {
		t.Helper()
		p := visit(host)
		p.send(request + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		out, _ := p.rest()
		if !strings.HasPrefix(out, "HTTP/1.1 "+want) {
			t.Errorf("%s: %q", request, out)
		}
		return out
	}
	if out := ask("example.org", "GET /index.html", "200"); !strings.Contains(out, "a relay") {
		t.Errorf("the site is %q", out)
	}
	if out := ask("example.org", "GET /new", "301"); !strings.Contains(out, "\r\nLocation: dcaccount:https://example.org/new\r\n") {
		t.Errorf("/new answers %q", out)
	}
	if out := ask("example.org", "POST /new", "200"); !strings.Contains(out, from) || !strings.Contains(out, "new@example.org") {
		t.Errorf("/new answers %q to %s", out, from)
	}
	ask("www.example.org", "GET /somewhere", "301")

	p := visit("example.org")
	p.send("GET /relay HTTP/1.1\r\nHost: example.org\r\nUpgrade: iroh derp http\r\nConnection: Upgrade\r\n\r\n")
	p.until("HTTP/1.1 101 ")
	p.until("\r\n")
	p.send("hello\n")
	if got := p.line(); got != "HELLO" {
		t.Errorf("the relay said %q", got)
	}

	const size = 20 << 20
	p = visit("example.org")
	p.send(fmt.Sprintf("POST /mxdeliv HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size))
	p.send(strings.Repeat("x", size))
	if out, _ := p.rest(); !strings.Contains(out, fmt.Sprint(size)) {
		t.Errorf("/mxdeliv answers %q", out)
	}
}

// startRelaySite starts nginx with the recipe's configuration, and what stands
// behind it on a relay: it returns where the site is.
func startRelaySite(t testing.TB) string {
	t.Helper()
	dir := backendtest.Dir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "fcgiwrap.socket"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.Addr().String(), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"email":"new@example.org","from":%q}`, r.RemoteAddr)
	}))
	relay := httptest.NewServer(http.HandlerFunc(shout))
	t.Cleanup(relay.Close)
	filtermail := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	t.Cleanup(filtermail.Close)

	put(t, filepath.Join(dir, "index.html"), "<h1>a relay</h1>")
	site, log := fmt.Sprintf("127.0.0.1:%d", backendtest.Port(t)), filepath.Join(dir, "log")
	conf := put(t, filepath.Join(dir, "nginx.conf"), replaced(t, "../examples/chatmail/nginx.conf",
		"/run/nginx.pid", filepath.Join(dir, "pid"), "syslog:server=unix:/dev/log,facility=local3", log,
		"syslog:server=unix:/dev/log,facility=local7", log, "127.0.0.1:8443", site, "/var/www/html", dir,
		"/run/fcgiwrap.socket", l.Addr().String(), "http://127.0.0.1:3340", relay.URL, "http://127.0.0.1:10082", filtermail.URL))
	backendtest.StartServer(t, log, site, "/usr/sbin/nginx", "-c", conf, "-g", "daemon off;")
	return site
}

// shout answers as a server that speaks something else after an Upgrade: it says
// a line back in capitals.
func shout(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n", r.Header.Get("Upgrade"))
	rw.Flush()
	line, err := rw.ReadString('\n')
	if err != nil {
		return
	}
	rw.WriteString(strings.ToUpper(line))
	rw.Flush()
}
