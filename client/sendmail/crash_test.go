package sendmail_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"crypto/x509"

	"go.uber.org/goleak"

	"posthorn/client"
	"posthorn/client/sendmail"
)

// The tests' program is also the process that is killed, when this says what it
// has to do.
const childEnv = "SENDMAIL_TEST_CHILD"

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		if err := child(job); err != nil {
			fmt.Println(err)
			os.Exit(int(sendmail.Code(err)))
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child adds a message to a queue, or flushes it, and kills itself at a step.
func child(job string) error {
	dir := os.Getenv("QUEUE")
	if limit, err := strconv.ParseUint(os.Getenv("FILE_SIZE"), 10, 64); err == nil {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	q, err := sendmail.OpenQueue(dir)
	if err != nil {
		return err
	}
	last, _ := strconv.Atoi(os.Getenv("STEP"))
	step := 0
	q.OnStep(func() {
		if step++; step == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if job == "add" {
		r := sendmail.Rules{Address: alice, Recipients: []string{"a@x.org"}}
		m, err := r.Prepare(strings.NewReader("\n" + strings.Repeat(os.Getenv("TEXT")+"\n", 100)))
		if err != nil {
			return err
		}
		if _, err := q.Add(m, m.Recipients, "killed"); err != nil {
			return err
		}
		fmt.Println("taken")
		return nil
	}
	identity, err := client.LoadIdentity(filepath.Join(os.Getenv("KEYS"), "key.pem"), "")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(os.Getenv("KEYS"), "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	d, err := client.New(client.Config{
		Host: "localhost", Identity: identity, Routes: []client.Kind{client.ALPN}, RootCAs: roots, Proxy: client.FixedProxy(nil),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, os.Getenv("SERVER"))
		},
	})
	if err != nil {
		return err
	}
	sender := &sendmail.Sender{Dialer: d}
	defer sender.Close()
	return q.Flush(context.Background(), sender, func(*sendmail.Entry, *sendmail.Outcome) {})
}

// crash is a server, and a queue with which processes end.
type crash struct {
	*server
	dir, keys string
}

func newCrash(t *testing.T) *crash {
	t.Helper()
	c := &crash{serve(t), t.TempDir(), t.TempDir()}
	key, err := c.key.KeyPEM()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Certificate().Raw})
	if err := errors.Join(err, os.WriteFile(filepath.Join(c.keys, "key.pem"), key, 0o600), os.WriteFile(filepath.Join(c.keys, "ca.pem"), ca, 0o600)); err != nil {
		t.Fatal(err)
	}
	return c
}

// command is a process that does a job, and is killed when ctx ends.
func (c *crash) command(ctx context.Context, job string, env ...string) (*exec.Cmd, *bytes.Buffer) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childEnv+"="+job, "QUEUE="+c.dir, "KEYS="+c.keys, "SERVER="+c.address)...)
	cmd.Stdout = &out
	return cmd, &out
}

// dies runs a job that kills itself at a step, and reports whether it came so far.
func (c *crash) dies(t *testing.T, job string, step int, env ...string) (killed bool, out string) {
	t.Helper()
	cmd, said := c.command(t.Context(), job, append(env, fmt.Sprintf("STEP=%d", step))...)
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true, said.String()
	}
	if err != nil {
		t.Fatalf("step %d: %v: %s", step, err, said)
	}
	return false, said.String()
}

// Killed at any step of being queued, a message that was taken is there, whole; one
// that was not is there whole, or not at all.
func TestKilledWhileAdding(t *testing.T) {
	c := newCrash(t)
	steps := 0
	for killed := true; killed; {
		steps++
		text := fmt.Sprintf("message %d.", steps)
		var out string
		killed, out = c.dies(t, "add", steps, "TEXT="+text)
		flush(t, open(t, c.dir), c.sender())
		copies := c.copies("a@x.org", text)
		if taken := strings.Contains(out, "taken"); taken == killed || taken && copies != 1 || copies > 1 {
			t.Errorf("step %d: taken %v, sent %d times", steps, taken, copies)
		}
		for _, d := range c.got() {
			if n := strings.Count(d.text, "message"); n != 100 {
				t.Errorf("step %d: %d lines of 100", steps, n)
			}
		}
	}
	if steps < 7 {
		t.Errorf("only %d steps", steps)
	}
}

// Killed at any step of a flush, nothing is lost, and at most the message comes twice
// whose being sent was not noted yet.
func TestKilledWhileFlushing(t *testing.T) {
	twice := 0
	steps := 0
	for killed := true; killed; {
		steps++
		c := newCrash(t)
		c.refuse["b@x.org"] = answer(550, 5, 1, 1)
		q := open(t, c.dir)
		put(t, q, "message 1.", "a@x.org", "b@x.org", "c@x.org")
		put(t, q, "message 2.", "a@x.org")
		killed, _ = c.dies(t, "flush", steps)
		flush(t, q, c.sender())
		first, second := c.copies("a@x.org", "message 1."), c.copies("a@x.org", "message 2.")
		if first < 1 || second < 1 || first+second > 3 || c.copies("c@x.org", "message 1.") != first {
			t.Errorf("step %d: %d and %d times", steps, first, second)
		}
		if first+second == 3 {
			twice++
		}
		all := list(t, q)
		if len(all) != 1 || len(all[0].Recipients) != 0 || len(all[0].Failed) != 1 || all[0].Failed[0].Recipient != "b@x.org" {
			t.Errorf("step %d: %+v", steps, all)
		}
	}
	// After each of the two was sent, and until that is noted: once in two steps, as
	// what is noted is written and then renamed; and once when it is removed.
	if steps < 10 || twice == 0 || twice > 4 {
		t.Errorf("%d steps, %d times twice", steps, twice)
	}
}

// Killed at any moment, again and again, while others flush and add.
func TestKilledAtRandom(t *testing.T) {
	c := newCrash(t)
	q := open(t, c.dir)
	const messages, kills = 40, 12
	for i := range messages {
		put(t, q, fmt.Sprintf("message %d.", i), "a@x.org")
	}
	for range kills {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+rand.IntN(60))*time.Millisecond)
		cmd, _ := c.command(ctx, "flush")
		_ = cmd.Run()
		cancel()
	}
	flush(t, q, c.sender())
	total := 0
	for i := range messages {
		n := c.copies("a@x.org", fmt.Sprintf("message %d.", i))
		if n == 0 {
			t.Errorf("message %d is lost", i)
		}
		total += n
	}
	if total > messages+kills || len(list(t, q)) != 0 {
		t.Errorf("%d messages for %d and %d kills", total, messages, kills)
	}
}

// On a full disk a message is not taken, and what waits is not sent, as it could
// not be noted.
func TestFullDisk(t *testing.T) {
	c := newCrash(t)
	for _, limit := range []int{0, 100, 3000} { // of the message nothing, a part; all, but not the envelope
		text := "text"
		cmd, out := c.command(t.Context(), "add", fmt.Sprintf("FILE_SIZE=%d", limit), "TEXT="+text)
		err := cmd.Run()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != int(sendmail.TempFail) {
			t.Errorf("%d: %v: %s", limit, err, out)
		}
		if f := files(t, c.dir); len(f) != 0 {
			t.Errorf("%d: %v", limit, f)
		}
	}
	q := open(t, c.dir)
	put(t, q, "waits", "a@x.org")
	cmd, out := c.command(t.Context(), "flush", "FILE_SIZE=1000")
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != int(sendmail.IOErr) || len(c.got()) != 0 {
		t.Errorf("%v: %s", err, out)
	}
	flush(t, q, c.sender())
	if c.copies("a@x.org", "waits") != 1 {
		t.Error("it is not sent when there is room again")
	}
}
