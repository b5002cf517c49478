package backendtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"posthorn/await"
)

// Server is a program that serves in the foreground, with the processes that it
// starts, and the log that they share.
type Server struct {
	LogFile string

	t       testing.TB
	address string // where it is to listen
	name    string
	args    []string
	cmd     *exec.Cmd     // nil: it does not run
	done    chan struct{} // closed when cmd has ended
}

// StartServer runs a program for as long as the test, and returns when it
// listens on address (host:port). Its output goes to logFile too.
func StartServer(t testing.TB, logFile, address, name string, args ...string) *Server {
	t.Helper()
	need(t, name)
	s := &Server{LogFile: logFile}
	s.run(t, address, name, args...)
	return s
}

// run starts a program for the first time, and ends it with the test.
func (s *Server) run(t testing.TB, address, name string, args ...string) {
	t.Helper()
	s.t, s.address, s.name, s.args = t, address, name, args
	t.Cleanup(func() {
		s.Stop()
		if s.t.Failed() {
			s.t.Logf("the log of %s:\n%s", filepath.Base(s.name), tail(s.Log()))
		}
	})
	s.Start()
}

// Start starts the server again, after Stop or Kill, on the same addresses, and
// returns when it serves.
func (s *Server) Start() {
	s.t.Helper()
	out, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(s.name, s.args...)
	cmd.Stdout, cmd.Stderr = out, out
	// It also ends when the tests are killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // whose death is the parent's, to the kernel
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.done = cmd, done
	await.Until(s.t, filepath.Base(s.name)+" serves", func() bool {
		select {
		case <-done:
			s.t.Fatalf("%s did not start:\n%s", filepath.Base(s.name), tail(s.Log()))
		default:
		}
		return listens(s.address)
	})
}

// Stop lets the server end in its own way, which closes its sessions.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server and its sessions at once, as kill -9 does.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	master := s.cmd.Process.Pid
	if sig == syscall.SIGKILL { // all stop first, lest one starts others, or says goodbye because another has gone
		signal(syscall.SIGSTOP, master)
	}
	family := descendants(master)
	if sig == syscall.SIGKILL {
		signal(syscall.SIGSTOP, family...)
		signal(sig, family...)
	}
	signal(sig, master)
	<-s.done
	s.cmd = nil
	// Its processes notice that it has gone.
	await.Until(s.t, filepath.Base(s.name)+" has ended", func() bool {
		return !slices.ContainsFunc(family, func(pid int) bool { return syscall.Kill(pid, 0) == nil && !zombie(pid) })
	})
}

func signal(sig syscall.Signal, pids ...int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
	}
}

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.LogFile)
	return string(text)
}

// Await waits until the server has logged a text, which may be in another
// process than the one that answers a client.
func (s *Server) Await(t testing.TB, text string) {
	t.Helper()
	await.Until(t, filepath.Base(s.name)+" logs "+text, func() bool { return strings.Contains(s.Log(), text) })
}

// AwaitTimes is Await for a text that must be logged n times, and not more often.
func (s *Server) AwaitTimes(t testing.TB, text string, n int) {
	t.Helper()
	times := func() int { return strings.Count(s.Log(), text) }
	await.Until(t, fmt.Sprintf("%s logs %s, %d times", filepath.Base(s.name), text, n), func() bool { return times() >= n })
	if got := times(); got != n {
		t.Errorf("%s logs %s %d times, not %d", filepath.Base(s.name), text, got, n)
	}
}

// descendants returns the processes that a process and its children have
// started and that still run.
func descendants(pid int) (all []int) {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(append(all, child), descendants(child)...)
		}
	}
	return all
}

// zombie reports whether a process has ended and nobody has waited for it.
func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, after, _ := strings.Cut(string(text), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}
