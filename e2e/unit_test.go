package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const unitFile = "../examples/posthorn.service"

// unit is what a unit file says: the values of each key, in order.
type unit map[string][]string

func readUnit(t *testing.T) unit {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	u := make(unit)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

// last is the value of a key that has one.
func (u unit) last(t *testing.T, key string) string {
	t.Helper()
	if len(u[key]) == 0 {
		t.Fatalf("the unit has no %s", key)
	}
	return u[key][len(u[key])-1]
}

// TestUnitVerifies: systemd's own tool knows every directive of the units, and
// finds the service well enclosed.
func TestUnitVerifies(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	var files []string
	for _, name := range []string{"posthorn.service", "posthorn.socket"} {
		text, err := os.ReadFile("../examples/" + name)
		if err != nil {
			t.Fatal(err)
		}
		// It has to be there.
		files = append(files, write(name, strings.ReplaceAll(string(text), "/usr/local/bin/posthorn", binary)))
	}
	verify := func(files ...string) (string, error) {
		cmd := exec.Command("systemd-analyze", append([]string{"verify"}, files...)...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir) // which users have
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify(files...); err != nil || out != "" {
		t.Errorf("verify: %v\n%s", err, out)
	}
	text, err := os.ReadFile("../examples/posthorn-tunnel.service")
	if err != nil {
		t.Fatal(err)
	}
	tunnel := write("posthorn-tunnel.service", strings.ReplaceAll(string(text), "/usr/local/bin/posthorn", binary))
	if out, err := verify("--user", tunnel); err != nil || out != "" {
		t.Errorf("verify the tunnel's: %v\n%s", err, out)
	}
	text, _ = os.ReadFile(files[0])
	if out, _ := verify(write("other.service", strings.Replace(string(text), "ProtectHome=", "ProtectHomes=", 1))); !strings.Contains(out, "ProtectHomes") {
		t.Errorf("verify overlooks a directive that is none: %q", out)
	}
	const most = "--threshold=15" // tenths
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", most, files[0]).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}

// TestUnitWorks runs the gateway with what the unit leaves it: another user with
// one capability, a system that is read-only but for the state directory, and
// the unit's system calls, where any other one kills. What is left out are the
// namespaces of systemd's own making (/proc, /dev, /tmp) and what only systemd
// counts (LimitNOFILE, control groups).
func TestUnitWorks(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: only root can become somebody else")
	}
	u := readUnit(t)
	g := prepareGateway(t, "")
	home, err := os.MkdirTemp("", "posthorn-e2e-unit-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	const nobody = 65534
	state := filepath.Join(home, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(state, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(home, "posthorn")
	if err := exec.Command("install", "-m", "0755", binary, program).Run(); err != nil {
		t.Fatal(err)
	}
	g.dir, g.config = home, filepath.Join(home, "config.yaml")
	settings := strings.Replace(fmt.Sprintf(listen, state), "127.0.0.1:0", "127.0.0.43:443", 1)
	if err := os.WriteFile(g.config, []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}

	// Without the capability the port is out of reach: it is the capability that
	// works below.
	g.program = confined(t, u, home, state, program, "-all")
	out, errOut, err := g.try("", g.program, "serve", "--config", g.config)
	if err == nil || !strings.Contains(errOut, "may not be opened") {
		t.Fatalf("without the capability: %v\n%s%s", err, out, errOut)
	}

	name, ok := strings.CutPrefix(u.last(t, "AmbientCapabilities"), "CAP_")
	if !ok || strings.ContainsAny(name, " ~") || u.last(t, "CapabilityBoundingSet") != "CAP_"+name {
		t.Fatalf("AmbientCapabilities=%q, CapabilityBoundingSet=%q", u["AmbientCapabilities"], u["CapabilityBoundingSet"])
	}
	g.program = confined(t, u, home, state, program, "-all,+"+strings.ToLower(name))
	g.start()
	if g.shared != "127.0.0.43:443" {
		t.Errorf("it listens on %s", g.shared)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534\n", "CapEff:\t0000000000000400\n", "CapBnd:\t0000000000000400\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}

	g.account(alice)
	pemFile := g.key(alice, "laptop")
	for i := range 20 {
		g.submit(pemFile, alice, alice, letter(alice, alice, fmt.Sprint(i), strings.Repeat("Hello.\r\n", 1<<(i%16))))
	}
	if got := g.subjects(pemFile, "INBOX"); len(got) != 20 {
		t.Errorf("the mailbox has %q", got)
	}
	g.posthorn("backup", filepath.Join(state, "backup"))
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.awaitLog(`"message":"reloaded"`)
	g.alive(pemFile)
	if code := g.end(syscall.SIGTERM); code != 0 {
		t.Errorf("it ends with %d", code)
	}

	elsewhere := strings.ReplaceAll(settings, state, filepath.Join(home, "elsewhere"))
	if err := os.WriteFile(g.config, []byte(elsewhere), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errOut, err := g.try("", g.program, "serve", "--config", g.config); err == nil || !strings.Contains(errOut, "read-only file system") {
		t.Errorf("it writes outside: %v\n%s", err, errOut)
	}
}

// confined writes a program that runs another one as the unit would, with some
// capabilities in setpriv's words, and returns its name.
func confined(t *testing.T, u unit, dir, state, program, capabilities string) string {
	t.Helper()
	for key, want := range map[string]string{
		"ProtectSystem": "strict", "NoNewPrivileges": "yes", "MemoryDenyWriteExecute": "yes", "UMask": "0077",
	} {
		if got := u.last(t, key); got != want {
			t.Fatalf("%s=%s: the test knows only %s", key, got, want)
		}
	}
	script := filepath.Join(dir, "confine.py")
	if err := exec.Command("install", "-m", "0644", "testdata/confine.py", script).Run(); err != nil {
		t.Fatal(err)
	}
	quote := func(s string) string { return "'" + s + "'" }
	python := "/usr/bin/python3 " + quote(script)
	text := fmt.Sprintf(`#!/bin/sh
umask %s
exec %s mounts %s setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
	--bounding-set=%[4]s --inh-caps=%[4]s --ambient-caps=%[4]s \
	%[2]s calls %[5]s %[6]s %[7]s "$@"
`, u.last(t, "UMask"), python, quote(state), capabilities,
		quote(strings.Join(u["SystemCallFilter"], "\n")), quote(u.last(t, "RestrictAddressFamilies")), quote(program))
	file := filepath.Join(dir, "confined")
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}
