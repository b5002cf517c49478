package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"posthorn/admin"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"posthorn": main, "sendmail": main, "mailq": main, "imapclient": imapClient, "imaplogin": imapLogin, "stoppedposthorn": stoppedPosthorn, "systemd": systemd})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"listening": listeningCmd,
			"logged":    loggedCmd,
			"sessions":  sessionsCmd,
			"signal":    signalCmd,

			"fingerprint": fingerprintCmd,
			"connection":  connectionCmd,
			"get":         getCmd,
			"trust":       trustCmd,
			"exits":       exitsCmd,

			"mailserver": mailserverCmd,
			"backends":   backendsCmd,
		},
	})
}

// imapClient connects to an address, with a key if a file is named, and prints
// what it hears until the end.
func imapClient() {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"imap"}}
	if len(os.Args) > 2 {
		pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[2])
		if err != nil {
			fmt.Println(err)
			os.Exit(exitError)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	c, err := tls.Dial("tcp", os.Args[1], config)
	if err != nil {
		fmt.Println(err)
		os.Exit(exitError)
	}
	for lines := bufio.NewScanner(c); lines.Scan(); {
		fmt.Println(lines.Text())
	}
}

// stoppedPosthorn is posthorn that has been interrupted before it begins.
func stoppedPosthorn() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e := &env{args: os.Args, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(e.execute(ctx))
}

// systemd starts a gateway as systemd would: with a socket of each name in its
// first argument, and told to notify. It prints the notifications. The other
// arguments are the gateway's. The socket that $LOSE names breaks when the gateway
// is ready.
func systemd() {
	if err := playSystemd(strings.Split(os.Args[1], ":"), os.Args[2:]); err != nil {
		fmt.Println(err)
		os.Exit(exitError)
	}
}

func playSystemd(names, args []string) error {
	child := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec posthorn "$@"`, "sh"}, args...)...)
	for _, name := range names {
		network, address := "tcp", "127.0.0.1:0"
		if name == adminName {
			network, address = "unix", "activated.sock"
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return err
		}
		child.ExtraFiles = append(child.ExtraFiles, f)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "notify.sock", Net: "unixgram"})
	if err != nil {
		return err
	}
	child.Env = append(os.Environ(), "NOTIFY_SOCKET=notify.sock", fmt.Sprintf("LISTEN_FDS=%d", len(names)),
		"LISTEN_FDNAMES="+strings.Join(names, ":"))
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		return err
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		for b := make([]byte, 4096); ; {
			n, err := notify.Read(b)
			if err != nil {
				return
			}
			fmt.Printf("%s\n", b[:n])
			if string(b[:n]) == daemon.SdNotifyReady && os.Getenv("LOSE") != "" {
				lost := child.ExtraFiles[slices.Index(names, os.Getenv("LOSE"))]
				_ = unix.Shutdown(int(lost.Fd()), unix.SHUT_RD) // accept fails from now on
			}
		}
	}()
	err = child.Wait()
	notify.Close()
	<-told
	return err
}

// wait calls ready every so often until it is true, or fails the script.
func wait(ts *testscript.TestScript, what string, ready func() bool) {
	over, again := time.After(20*time.Second), time.Tick(5*time.Millisecond)
	for !ready() {
		select {
		case <-again:
		case <-over:
			ts.Fatalf("waited in vain for %s", what)
		}
	}
}

// listeningCmd sets, for each of the gateway's sockets, a variable with its
// name in upper case to its first address.
func listeningCmd(ts *testscript.TestScript, _ bool, args []string) {
	cl := admin.NewClient(ts.MkAbs(args[0]))
	defer cl.Close()
	st, err := waitStatus(context.Background(), cl, 20*time.Second)
	ts.Check(err)
	for _, l := range st.Listeners {
		if name := strings.ToUpper(l.Name); ts.Getenv(name) == "" {
			ts.Setenv(name, l.Address)
		}
	}
}

// loggedCmd waits until the file log has a match of a pattern.
func loggedCmd(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	wait(ts, args[0], func() bool {
		b, err := os.ReadFile(ts.MkAbs("log"))
		return err == nil && pattern.Match(b)
	})
}

// sessionsCmd waits until so many connections are logged in.
func sessionsCmd(ts *testscript.TestScript, _ bool, args []string) {
	cl := admin.NewClient(ts.MkAbs(args[0]))
	defer cl.Close()
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	wait(ts, args[1]+" sessions", func() bool {
		st, err := cl.Status(context.Background())
		return err == nil && st.Conns.LoggedIn == want
	})
}

// signalCmd sends the gateway on a socket a signal.
func signalCmd(ts *testscript.TestScript, _ bool, args []string) {
	cl := admin.NewClient(ts.MkAbs(args[0]))
	defer cl.Close()
	st, err := cl.Status(context.Background())
	ts.Check(err)
	ts.Check(syscall.Kill(st.PID, unix.SignalNum(args[1])))
}

// fingerprintCmd sets FINGERPRINT to what a file holds.
func fingerprintCmd(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("FINGERPRINT", strings.TrimSpace(ts.ReadFile(args[0])))
}

// connectionCmd sets CONNECTION to the ID of the last connection.
func connectionCmd(ts *testscript.TestScript, _ bool, args []string) {
	cl := admin.NewClient(ts.MkAbs(args[0]))
	defer cl.Close()
	conns, err := cl.ListConns(context.Background(), "")
	ts.Check(err)
	ts.Setenv("CONNECTION", strconv.FormatUint(conns[len(conns)-1].ID, 10))
}

// trustCmd writes the certificate that an address shows to a file.
func trustCmd(ts *testscript.TestScript, _ bool, args []string) {
	c, err := tls.Dial("tcp", args[0], &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	ts.Check(err)
	defer c.Close()
	der := c.ConnectionState().PeerCertificates[0].Raw
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// getCmd prints what is at a URL; it fails unless the status is 200.
func getCmd(ts *testscript.TestScript, neg bool, args []string) {
	resp, err := http.Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if ok := resp.StatusCode == http.StatusOK; ok == neg {
		ts.Fatalf("%s: %s", args[0], resp.Status)
	}
	fmt.Fprintf(ts.Stdout(), "%s", body)
}

// exitsCmd runs a command that must end with the exit code that is the first
// argument.
func exitsCmd(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("it ends with %v", err)
	}
}
