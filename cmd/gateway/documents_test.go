package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// invoked is a command line of ours where documents have one: in code, between
// quotes or backticks, or behind a path or another program's name.
var invoked = regexp.MustCompile("(?m)(?:[`\"(/=]|^ +|[$#] |\\$\\(|&& |\\| |exec )posthorn((?: +(?:[a-z]+|--(?:server|config|data|socket)\\b))(?: +[^\\s`\"()|;&<>]+)*)")

// The commands and flags that documents and examples name are there.
func TestCommandsInDocuments(t *testing.T) {
	files := []string{"../../README.md", "../../ARCHITECTURE.md", "../../CHANGELOG.md", "../../config.yaml", "../../docs/cli.md"}
	err := filepath.WalkDir("../../examples", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		joined := strings.ReplaceAll(string(text), "\\\n", " ") // lines that go on
		for _, m := range invoked.FindAllStringSubmatch(joined, -1) {
			n++
			if why := unknown(strings.Fields(m[1])); why != "" {
				t.Errorf("%s: posthorn%s: %s", file, m[1], why)
			}
		}
	}
	if n < 100 {
		t.Errorf("%d command lines", n)
	}
}

// unknown says what of a command line is not there; empty: all is.
func unknown(args []string) string {
	for i, arg := range args { // what follows is a remark
		if strings.HasPrefix(arg, "#") {
			args = args[:i]
			break
		}
	}
	root := newRoot(testEnv())
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err.Error()
	}
	if own := commands(cmd); len(own) > 0 && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "no command " + rest[0]
	}
	for _, arg := range rest {
		name, ok := strings.CutPrefix(arg, "--")
		name, _, _ = strings.Cut(name, "=")
		if ok && name != "help" && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
			return "no flag --" + name
		}
	}
	return ""
}
