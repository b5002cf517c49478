package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	alice = "alice@localhost"
	bob   = "bob@localhost"
)

// users are those of a gateway, with their passwords, wherever these and their
// mail are kept.
type users struct {
	*gateway
	alice, bob string
	behind     bool   // in a mail system behind the gateway
	settle     func() // waits until what was submitted has arrived
}

// eachMail runs a test with the embedded mailboxes, and with a mail system
// behind the gateway.
func eachMail(t *testing.T, test func(*testing.T, users)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		g := newGateway(t, "")
		test(t, users{gateway: g, alice: g.account(alice), bob: g.account(bob), settle: func() {}})
	})
	t.Run("behind", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t, edgeOptions{})
		e.account(alice)
		test(t, users{gateway: e.gateway, alice: alicePassword, bob: bobPassword, behind: true, settle: func() { e.p.Settle(t) }})
	})
}

// TestOpenSSL is the README's first session: a fresh key is greeted with
// PREAUTH, and what ALPN does not name is refused.
func TestOpenSSL(t *testing.T) {
	g := newGateway(t, "")
	g.account(alice)
	pemFile := g.key(alice, "laptop")

	out := g.run("a1 SELECT INBOX\r\na2 LOGOUT\r\n", "openssl", "s_client", "-connect", g.shared, "-servername", "localhost",
		"-CAfile", g.ca, "-verify_return_error", "-alpn", "imap", "-cert", pemFile, "-key", pemFile, "-quiet")
	for _, want := range []string{"* PREAUTH [CAPABILITY ", " IMAP4rev1 ", "a1 OK [READ-WRITE]", "* BYE", "a2 OK"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	_, errOut, err := g.try("", "openssl", "s_client", "-connect", g.shared, "-servername", "localhost", "-alpn", "xmpp-client")
	if err == nil || !strings.Contains(errOut, "alert number 120") {
		t.Errorf("ALPN without overlap: %v\n%s", err, errOut)
	}
	_, errOut, err = g.try("", "openssl", "s_client", "-connect", g.imaps, "-servername", "elsewhere.example", "-tls1_2")
	if err == nil || !strings.Contains(errOut, "alert number 112") {
		t.Errorf("a server name that is not served: %v\n%s", err, errOut)
	}
	_, errOut, err = g.try("", "openssl", "s_client", "-connect", g.imaps, "-servername", "localhost", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
	if err == nil {
		t.Errorf("TLS 1.1 was accepted\n%s", errOut)
	}
}

// TestCurl reads, submits and browses on the one shared port: curl sends no
// ALPN for mail, so the server name decides.
func TestCurl(t *testing.T) {
	eachMail(t, func(t *testing.T, u users) {
		g := u.gateway
		password := u.alice
		bobPassword := u.bob
		pemFile := g.key(alice, "laptop")
		p := port(g.shared)
		curl := func(args ...string) string {
			t.Helper()
			args = append([]string{"--silent", "--show-error", "--cacert", g.ca, "--max-time", "30",
				"--resolve", "imap.localhost:" + p + ":127.0.0.1", "--resolve", "smtp.localhost:" + p + ":127.0.0.1",
				"--resolve", "localhost:" + p + ":127.0.0.1"}, args...)
			return g.run("", "curl", args...)
		}

		file := filepath.Join(g.dir, "letter")
		write := func(subject string) {
			if err := os.WriteFile(file, []byte(letter(alice, bob, subject, "Hello.")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("by key")
		curl("--cert", pemFile, "--url", "smtps://smtp.localhost:"+p, "--mail-from", alice, "--mail-rcpt", bob, "--upload-file", file)
		write("by password")
		curl("--user", alice+":"+password, "--url", "smtps://smtp.localhost:"+p, "--mail-from", alice, "--mail-rcpt", bob, "--upload-file", file)
		write("by EXTERNAL")
		curl("--cert", pemFile, "--user", alice+":", "--login-options", "AUTH=EXTERNAL",
			"--url", "smtps://smtp.localhost:"+p, "--mail-from", alice, "--mail-rcpt", bob, "--upload-file", file)

		u.settle()
		for _, options := range []string{"AUTH=PLAIN", "AUTH=LOGIN"} {
			out := curl("--user", bob+":"+bobPassword, "--login-options", options, "--url", "imaps://imap.localhost:"+p+"/INBOX?ALL")
			if !strings.Contains(out, "* SEARCH 1 2 3") {
				t.Errorf("%s: search answered %q", options, out)
			}
		}
		if out := curl("--cert", pemFile, "--url", "imaps://imap.localhost:"+p+"/", "--user", alice+":"); !strings.Contains(out, `\Sent`) {
			t.Errorf("LIST with a key answered %q", out)
		}

		for _, version := range []string{"--http1.1", "--http2"} {
			if out := curl(version, "--write-out", " %{http_version} %{http_code}", "https://localhost:"+p+"/healthz"); !strings.HasSuffix(out, " 200") {
				t.Errorf("%s /healthz answered %q", version, out)
			}
			if out := curl(version, "https://localhost:"+p+"/"); !strings.Contains(out, "imap.localhost") {
				t.Errorf("%s: the page does not say how to connect:\n%s", version, out)
			}
		}
		_, errOut, err := g.try("", "curl", "--silent", "--show-error", "--cacert", g.ca, "--user", bob+":wrong",
			"--resolve", "imap.localhost:"+p+":127.0.0.1", "--url", "imaps://imap.localhost:"+p+"/INBOX")
		if code := exitCode(err); code != 67 {
			t.Errorf("a wrong password: curl ended with %d, not 67 (login denied): %s", code, errOut)
		}
	})
}

// TestMbsync keeps a Maildir and the embedded mailboxes in step, with a
// password and with a key.
func TestMbsync(t *testing.T) {
	eachMail(t, func(t *testing.T, u users) {
		g := u.gateway
		password := u.alice
		pemFile := g.key(alice, "laptop")
		g.submit(pemFile, alice, alice, letter(alice, alice, "one", "First."))
		g.submit(pemFile, alice, alice, letter(alice, alice, "two", "Second."))
		u.settle()

		logins := map[string]string{
			"password": "User " + alice + "\nPass " + password + "\n",
			"key":      "User " + alice + "\nClientCertificate " + pemFile + "\nClientKey " + pemFile + "\n",
		}
		for name, login := range logins {
			t.Run(name, func(t *testing.T) {
				maildir := filepath.Join(g.dir, name) + "/"
				rc := filepath.Join(g.dir, name+".rc")
				text := "IMAPAccount a\nHost localhost\nPort " + port(g.imaps) + "\nSSLType IMAPS\nCertificateFile " + g.ca + "\n" + login + `
IMAPStore far
Account a

MaildirStore near
Path ` + maildir + `
Inbox ` + maildir + `INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`
				if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(maildir, 0o700); err != nil {
					t.Fatal(err)
				}
				g.run("", "mbsync", "-c", rc, "c")
				messages, _ := filepath.Glob(maildir + "INBOX/*/*")
				if len(messages) < 2 {
					t.Fatalf("mbsync brought %q", messages)
				}

				draft := letter(alice, bob, "draft by "+name, "Not sent yet.")
				if err := os.WriteFile(maildir+"Drafts/new/1.draft", []byte(strings.ReplaceAll(draft, "\r\n", "\n")), 0o600); err != nil {
					t.Fatal(err)
				}
				g.run("", "mbsync", "-c", rc, "c")
				if got := g.subjects(pemFile, "Drafts"); !slices.Contains(got, "draft by "+name) {
					t.Errorf("Drafts has %q", got)
				}
			})
		}
	})
}

// TestMsmtp submits with a key alone, with EXTERNAL, and with a password.
func TestMsmtp(t *testing.T) {
	eachMail(t, func(t *testing.T, u users) {
		g := u.gateway
		password := u.alice
		pemFile := g.key(alice, "laptop")
		cert := "tls_cert_file " + pemFile + "\ntls_key_file " + pemFile + "\n"
		for name, login := range map[string]string{
			"key":         cert + "auth off\n",
			"external":    cert + "auth external\nuser " + alice + "\n",
			"scram":       "auth scram-sha-256\nuser " + alice + "\npassword " + password + "\n",
			"plain":       "auth plain\nuser " + alice + "\npassword " + password + "\n",
			"plain + key": cert + "auth plain\nuser " + alice + "\npassword " + password + "\n",
		} {
			if u.behind && name == "scram" {
				continue // Dovecot keeps the passwords, and is told them
			}
			rc := filepath.Join(g.dir, "msmtprc")
			text := "account default\nhost localhost\nport " + port(g.submissions) + "\ntls on\ntls_starttls off\ntls_trust_file " + g.ca + "\nfrom " + alice + "\n" + login
			if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			g.run(strings.ReplaceAll(letter(alice, alice, name, "Hello."), "\r\n", "\n"), "msmtp", "-C", rc, alice)
			u.settle()
			if got := g.subjects(pemFile, "INBOX"); !slices.Contains(got, name) {
				t.Errorf("after %s the INBOX has %q", name, got)
			}
		}
	})
}

// TestMutt reads and sends, with a key and with a password.
func TestMutt(t *testing.T) {
	eachMail(t, func(t *testing.T, u users) {
		g := u.gateway
		password := u.alice
		pemFile := g.key(alice, "laptop")

		for name, login := range map[string]string{
			"key": `set ssl_client_cert="` + pemFile + `" smtp_authenticators="external"`,
			// Left to itself, mutt with GNU SASL takes SCRAM-SHA-256-PLUS, cannot
			// bind it to the channel, and sends nothing.
			"password": `set imap_pass="` + password + `" smtp_pass="` + password + `" smtp_authenticators="plain"`,
		} {
			t.Run(name, func(t *testing.T) {
				text := login + `
set ssl_starttls=no ssl_force_tls=yes
set certificate_file="` + g.ca + `" ssl_ca_certificates_file="` + g.ca + `"
set from="` + alice + `" realname="Alice" use_from=yes envelope_from_address="` + alice + `" use_envelope_from=yes
set imap_user="` + alice + `"
set smtp_url="smtps://alice%40localhost@localhost:` + port(g.submissions) + `/"
set folder="` + g.dir + `" record="" header_cache="" sleep_time=0 wait_key=no quit=yes
`
				rc := filepath.Join(g.dir, "muttrc")
				if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				g.run("Sent with a "+name+".\n", "mutt", "-n", "-F", rc, "-s", "sent by mutt", "--", alice)
				u.settle()

				// mutt wants a terminal to read in; script(1) is one.
				saved := filepath.Join(g.dir, "saved")
				keys := `push "<last-entry><display-message><exit><pipe-message>cat>` + saved + `<enter><quit>"`
				if err := os.WriteFile(rc, []byte(text+keys+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				command := "mutt -n -F " + rc + " -f imaps://localhost:" + port(g.imaps) + "/INBOX"
				out := g.run("", "script", "-qec", command, "/dev/null")
				mail, err := os.ReadFile(saved)
				if err != nil || !strings.Contains(string(mail), "Sent with a "+name+".") {
					t.Errorf("mutt saved %q (%v); its screen:\n%q", mail, err, out)
				}
			})
		}
	})
}

// TestSNail reads and sends. s-nail logs in even when it is greeted with
// PREAUTH, so its key is marked for it.
func TestSNail(t *testing.T) {
	eachMail(t, func(t *testing.T, u users) {
		g := u.gateway
		password := u.alice
		pemFile := g.key(alice, "laptop", "--no-preauth")
		for name, login := range map[string]struct {
			user    string
			options []string
		}{
			"password": {"alice%40localhost:" + password, []string{"-Ssmtp-auth=plain", "-Simap-auth=login"}},
			"key": {"alice%40localhost", []string{"-Ssmtp-auth=external", "-Simap-auth=external",
				"-Stls-config-pairs=Certificate=" + pemFile + ",PrivateKey=" + pemFile}},
		} {
			t.Run(name, func(t *testing.T) {
				options := slices.Concat(login.options, []string{"-:/", "-Sv15-compat", "-Sfrom=" + alice, "-Stls-verify=strict", "-Stls-ca-file=" + g.ca})
				send := slices.Concat(options, []string{"-Ssendwait", "-Smta=smtps://" + login.user + "@localhost:" + port(g.submissions), "-s", "by " + name, alice})
				g.run("Hello.\n", "s-nail", send...)
				u.settle()
				read := slices.Concat(options, []string{"-R", "-f", "imaps://" + login.user + "@localhost:" + port(g.imaps) + "/INBOX"})
				if out := g.run("type $\nquit\n", "s-nail", read...); !strings.Contains(out, "Subject: by "+name+"\n") {
					t.Errorf("s-nail shows\n%s", out)
				}
			})
		}
	})
}

// TestPython runs the libraries that scripts use; testdata/mail.py checks what
// they are told.
func TestPython(t *testing.T) {
	eachMail(t, func(t *testing.T, u users) {
		g := u.gateway
		password := u.alice
		script, err := filepath.Abs("testdata/mail.py")
		if err != nil {
			t.Fatal(err)
		}
		g.run("", "python3", script, port(g.shared), g.ca, alice, password,
			g.key(alice, "laptop"), g.key(alice, "quiet", "--no-preauth"))
	})
}
