package browser

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"software.sslmate.com/src/go-pkcs12"
)

// policyFile has Chromium show the key that it has without asking, on the host
// names of tests; .ci/test installs it.
const policyFile = "/etc/chromium/policies/managed/posthorn-tests.json"

// StartWithKey starts a browser as Start does, into which somebody has imported the
// key and certificate in a PEM file. It shows them to admin.localhost.
func StartWithKey(t testing.TB, pemFile string, certificates ...string) *Browser {
	t.Helper()
	if _, err := os.Stat(policyFile); err != nil {
		t.Fatalf("Chromium is not told to show keys (.ci/test does it): %v", err)
	}
	pair, err := tls.LoadX509KeyPair(pemFile, pemFile)
	if err != nil {
		t.Fatal(err)
	}
	const passphrase = "import"
	p12, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, nil, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	file, db := filepath.Join(home, "key.p12"), filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, p12, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"certutil", "-N", "-d", "sql:" + db, "--empty-password"},
		{"pk12util", "-i", file, "-d", "sql:" + db, "-W", passphrase},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	return start(t, []chromedp.ExecAllocatorOption{chromedp.Env("HOME=" + home)}, certificates)
}
