package badgerkv_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"posthorn/store"
	"posthorn/store/badgerkv"
)

// crashDir names the store that a child process is to write to until it is
// killed.
const crashDir = "POSTHORN_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashWorkers write at the same time, each its own keys.
const crashWorkers = 4

// writeForEver writes records in pairs and prints the name of each pair once it
// is acknowledged. The values are long, so that tables are written and
// compacted meanwhile.
func writeForEver(dir string) error {
	db, err := badgerkv.Open(dir, zerolog.Nop())
	if err != nil {
		return err
	}
	ctx := context.Background()
	value := make([]byte, 50<<10)
	failed := make(chan error)
	for w := range crashWorkers {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d/%d/%d", w, os.Getpid(), i)
				err := db.Update(ctx, func(tx store.Tx) error {
					return errors.Join(tx.Put("left/"+name, value), tx.Put("right/"+name, value))
				})
				if err != nil {
					failed <- err
					return
				}
				fmt.Println(name)
			}
		}()
	}
	return <-failed
}

func TestKilledDuringUpdates(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 3 {
		acknowledged = append(acknowledged, killAfter(t, dir, 100+100*round)...)
		db := open(t, dir)
		for _, name := range acknowledged {
			for _, side := range []string{"left/", "right/"} {
				if _, err := db.Get(t.Context(), side+name); err != nil {
					t.Errorf("round %d: %s%s was acknowledged: %v", round, side, name, err)
				}
			}
		}
		left, right := count(t, db, "left/"), count(t, db, "right/")
		if left != right || left > len(acknowledged)+(round+1)*crashWorkers {
			t.Errorf("round %d: %d and %d records, %d acknowledged", round, left, right, len(acknowledged))
		}
		closeDB(t, db)
	}
}

// killAfter lets a child write to dir, kills it after some acknowledgements, and
// returns all of them.
func killAfter(t *testing.T, dir string, n int) (acknowledged []string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir)
	var trouble strings.Builder
	child.Stderr = &trouble
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var kill sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if acknowledged = append(acknowledged, lines.Text()); len(acknowledged) >= n {
			kill.Do(func() { _ = child.Process.Kill() }) // it can only have ended
		}
	}
	_ = child.Wait() // always an error: it was killed
	if len(acknowledged) < n {
		t.Fatalf("the child wrote %d records: %s", len(acknowledged), trouble.String())
	}
	return acknowledged
}

func count(t *testing.T, db *badgerkv.DB, prefix string) (n int) {
	t.Helper()
	for _, err := range db.Scan(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
