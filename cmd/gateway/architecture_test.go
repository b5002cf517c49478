package main

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// section returns the part of ARCHITECTURE.md below a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, below, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("ARCHITECTURE.md has no part %q", heading)
	}
	below, _, _ = strings.Cut(below, "\n## ")
	return below
}

// The table of imports that people read is the one that TestImports enforces.
func TestImportsAreDocumented(t *testing.T) {
	columns := regexp.MustCompile(` {2,}`)
	documented := make(map[string][]string)
	for line := range strings.Lines(section(t, "Who imports whom")) {
		row, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		if !ok {
			continue
		}
		cells := columns.Split(row, -1)
		if len(cells) != 2 {
			t.Fatalf("not packages, two blanks or more, and packages: %q", row)
		}
		var imports []string
		switch cells[1] {
		case "nothing of ours":
		case "everything":
			imports = []string{"*"}
		default:
			imports = strings.Split(cells[1], ", ")
		}
		for pkg := range strings.SplitSeq(cells[0], ", ") {
			documented[pkg] = imports
		}
	}
	sorted := cmpopts.SortSlices(strings.Compare)
	if diff := cmp.Diff(documented, mayImport, sorted, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("ARCHITECTURE.md is behind the code: (-documented +enforced)\n%s", diff)
	}
}

// Every package has a place in the tree, and nothing else does: a row of its own,
// or a word in the row of what it is a part of.
func TestTreeIsDocumented(t *testing.T) {
	root := os.DirFS("../..")
	names := regexp.MustCompile("`([^`]+)`")
	rows := make(map[string][]string) // the names in the row of each package
	for line := range strings.Lines(section(t, "Tree")) {
		found := names.FindAllStringSubmatch(line, -1)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		pkg := found[0][1]
		for _, f := range found[1:] {
			rows[pkg] = append(rows[pkg], f[1])
		}
		if info, err := fs.Stat(root, pkg); err != nil || !info.IsDir() {
			t.Errorf("ARCHITECTURE.md tells of %s, which is not there", pkg)
		}
		rows[pkg] = append(rows[pkg], "")
	}
	sources, err := fs.Glob(root, "*/*.go")
	for _, pattern := range []string{"*/*/*.go", "*/*/*/*.go", "*/*/*/*/*.go"} {
		more, globErr := fs.Glob(root, pattern)
		if sources = append(sources, more...); globErr != nil {
			err = globErr
		}
	}
	if err != nil || len(sources) < 20 {
		t.Fatalf("%d files, %v", len(sources), err)
	}
	for i, name := range sources {
		pkg := path.Dir(name)
		if i > 0 && path.Dir(sources[i-1]) == pkg || exists("../../"+pkg+"/go.mod") {
			continue
		}
		if strings.Contains(pkg, "node_modules") || strings.Contains(pkg, "testdata") {
			continue
		}
		if rows[pkg] == nil && !slices.Contains(rows[path.Dir(pkg)], path.Base(pkg)) {
			t.Errorf("ARCHITECTURE.md does not tell of %s", pkg)
		}
	}
}
