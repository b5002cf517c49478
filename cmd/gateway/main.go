// Some programs that make client certificates take a random number for a serial
// number, sign and all. Only the key counts here, and what else is odd must not
// keep it from logging in.
//
//go:debug x509negativeserial=1

// Command gateway is Posthorn: a mail gateway for port 443. It calls itself
// posthorn, and is built with: go build -o posthorn ./cmd/gateway
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"posthorn/admin"
	"posthorn/client/sendmail"
)

//go:generate go test -run ^TestReference$ . -update

func main() {
	e := &env{args: os.Args, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(e.run())
}

// env is what a command has of the world around it.
type env struct {
	args           []string // with the command's name
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// run carries out the command line and returns its exit code. The first
// interrupt ends the command's context; a second one kills it.
func (e *env) run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return e.execute(ctx)
}

// execute is run with a context of the caller's.
func (e *env) execute(ctx context.Context) int {
	root := newRoot(e)
	root.SetArgs(e.commandLine())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	e.report(err)
	if x := (*sendmail.Error)(nil); errors.As(err, &x) {
		return int(x.Code)
	}
	if u := (*usageError)(nil); errors.As(err, &u) {
		return exitUsage
	}
	return exitError
}

// outliveReaders has the process go on when nobody reads its standard output or
// error any more, as when Ctrl-C ends "posthorn serve | tee log": one that has
// something to bring to an end must not die of a message about it.
func outliveReaders() { signal.Ignore(syscall.SIGPIPE) }

// commandLine is what was asked for, with the subcommand that the name stands for
// under which the program was started.
func (e *env) commandLine() []string {
	switch filepath.Base(e.args[0]) {
	case "sendmail":
		return append([]string{"sendmail"}, e.args[1:]...)
	case "mailq":
		return append([]string{"sendmail", "-bp"}, e.args[1:]...)
	case "newaliases":
		return []string{"sendmail", "-bi"}
	}
	return e.args[1:]
}

// report tells of an error: what went wrong, then what to do about it.
func (e *env) report(err error) {
	fmt.Fprintf(e.stderr, "error: %s\n", indent(err.Error()))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(e.stderr, "hint: %s\n", indent(hint))
	}
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

func hintOf(err error) string {
	var h *hinted
	var p *admin.Problem
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &p):
		return p.Hint
	}
	return ""
}
