package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const referenceFile = "../../docs/cli.md"

// TestReference holds docs/cli.md to what the commands say of themselves.
func TestReference(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Commands\n\nMade by `go generate ./cmd/gateway` from what the commands say of themselves; do not edit.\n\n")
	root := newRoot(testEnv())
	contents(&b, root, 0)
	describe(&b, root)
	if *update {
		if err := os.WriteFile(referenceFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("docs/cli.md is not current, run: go generate ./cmd/gateway (%v)", err)
	}
}

func testEnv() *env {
	return &env{args: []string{"posthorn"}, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard,
		getenv: func(string) string { return "" }}
}

// commands returns a command's own commands, without cobra's.
func commands(cmd *cobra.Command) (own []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" {
			own = append(own, sub)
		}
	}
	return own
}

func contents(w io.Writer, cmd *cobra.Command, depth int) {
	for _, sub := range commands(cmd) {
		anchor := strings.ReplaceAll(sub.CommandPath(), " ", "-")
		fmt.Fprintf(w, "%s- [%s](#%s): %s\n", strings.Repeat("  ", depth), sub.Name(), anchor, sub.Short)
		contents(w, sub, depth+1)
	}
}

func describe(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "\n## %s\n\n%s.\n", cmd.CommandPath(), cmd.Short)
	if len(commands(cmd)) == 0 {
		fmt.Fprintf(w, "\n    %s\n", cmd.UseLine())
	}
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", cmd.Long)
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nFor example:\n\n    %s\n", strings.ReplaceAll(strings.TrimSpace(cmd.Example), "\n  ", "\n    "))
	}
	flags := cmd.LocalFlags()
	if flags.HasAvailableFlags() {
		fmt.Fprint(w, "\n| flag | |\n| --- | --- |\n")
		flags.VisitAll(func(f *pflag.Flag) { describeFlag(w, f) })
	}
	for _, sub := range commands(cmd) {
		describe(w, sub)
	}
}

func describeFlag(w io.Writer, f *pflag.Flag) {
	if f.Name == "help" || f.Hidden {
		return
	}
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + "`, `" + name
	}
	value, usage := pflag.UnquoteUsage(f)
	if value != "" {
		value = " " + value
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" && f.DefValue != "[]" {
		usage += " (default " + f.DefValue + ")"
	}
	fmt.Fprintf(w, "| `%s%s` | %s |\n", name, value, usage)
}

// Every command that does something has a text, an example and a use.
func TestHelpIsComplete(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is %q", cmd.CommandPath(), cmd.Short)
		}
		if len(commands(cmd)) == 0 && !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, line := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
			if len(line) > 105 {
				t.Errorf("%s: a line of %d characters: %s", cmd.CommandPath(), len(line), line)
			}
		}
		for _, sub := range commands(cmd) {
			walk(sub)
		}
	}
	walk(newRoot(testEnv()))
}
