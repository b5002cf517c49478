package mailbox_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/rs/zerolog"

	"posthorn/mailbox"
)

// victimDir makes a process of the tests the victim of TestKill.
const victimDir = "MAILBOX_TEST_VICTIM_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		return
	}
	os.Exit(m.Run())
}

// numbered is message n; a few are large.
func numbered(n int) string {
	size := n * 7919 % 20000
	if n%10 == 0 {
		size += 600 << 10
	}
	r := rand.New(rand.NewPCG(uint64(n), 1))
	body := make([]byte, size)
	for i := range body {
		body[i] = "abcdefghijklmnopqrstuvwxyz\r\n"[r.IntN(28)]
	}
	return fmt.Sprintf("Subject: %d\r\n\r\n%s", n, body)
}

// victim delivers messages until it is killed, and says which are delivered.
func victim(dir string) {
	s, err := mailbox.Open(dir, mailbox.Options{Log: zerolog.Nop()})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	go s.Run(context.Background())
	first, _ := strconv.Atoi(os.Getenv("MAILBOX_TEST_FIRST"))
	var mu sync.Mutex
	for i := range 4 {
		go func() {
			for n := first + i; ; n += 4 {
				err := s.Deliver(context.Background(), []string{"a", "b"}, strings.NewReader(numbered(n)))
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println(n)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

// TestKill kills a process that delivers, several times: what it said is
// delivered is there, once and complete, for both users, and all else that is
// there is complete, too.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	delivered := map[int]bool{}
	first := 1
	for range 6 {
		first = runVictim(t, dir, first, delivered)
		s := openDir(t, dir, mailbox.Options{})
		for _, user := range []string{"a", "b"} {
			checkDelivered(t, s, user, delivered)
		}
		if _, a, _ := s.Usage(t.Context(), "a"); true {
			if _, b, _ := s.Usage(t.Context(), "b"); a != b {
				t.Errorf("%d and %d messages", a, b)
			}
		}
		if n, _ := s.CountKeys('r'); n == 0 {
			t.Error("nothing is shared")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runVictim returns a number above all that were delivered.
func runVictim(t *testing.T, dir string, first int, delivered map[int]bool) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir, fmt.Sprintf("MAILBOX_TEST_FIRST=%d", first))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var kill *time.Timer
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Errorf("victim: %s", lines.Text())
			continue
		}
		delivered[n] = true
		first = max(first, n+1)
		if kill == nil { // some time after the first delivery
			kill = time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait()
	return first + 100
}

func checkDelivered(t *testing.T, s *mailbox.Store, user string, delivered map[int]bool) {
	t.Helper()
	c := dial(t, s, user, nil)
	defer c.Close()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	messages, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{
		Envelope: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}},
	}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]int{}
	for _, m := range messages {
		n, _ := strconv.Atoi(m.Envelope.Subject)
		found[n]++
		if want := sha256.Sum256([]byte(numbered(n))); sha256.Sum256(m.BodySection[0].Bytes) != want {
			t.Errorf("message %d differs", n)
		}
	}
	for n := range delivered {
		if found[n] != 1 {
			t.Errorf("message %d is there %d times", n, found[n])
		}
	}
	if files := s.Files(t); files > len(found) {
		t.Errorf("%d files for %d messages", files, len(found))
	}
}

func TestBackup(t *testing.T) {
	s := open(t, mailbox.Options{})
	c := newTalk(t, s, "a")
	for n := 9; n < 12; n++ {
		deliver(t, s, numbered(n), "a", "b")
	}
	c.do("SELECT INBOX")
	c.do("COPY 2 Archive")
	c.do("COPY 2 Archive")
	c.tagged("STORE 1 +FLAGS.SILENT (\\Seen kw)", "OK")
	c.tagged("CREATE x/y", "OK")

	// Meanwhile messages come and go.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		busy := newTalk(t, s, "busy")
		busy.do("SELECT INBOX")
		for n := 10; ; n += 10 {
			select {
			case <-stop:
				return
			default:
			}
			deliver(t, s, numbered(n), "busy")
			busy.do("NOOP")
			busy.do("STORE 1:* +FLAGS.SILENT (\\Deleted)")
			busy.do("EXPUNGE")
		}
	}()
	file, err := os.Create(t.TempDir() + "/backup")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 20 {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if err := s.Backup(t.Context(), file); err != nil {
			t.Fatal(err)
		}
	}
	end, _ := file.Seek(0, io.SeekCurrent)
	close(stop)
	<-done
	if err := s.Restore(t.Context(), io.NewSectionReader(file, 0, end)); err != mailbox.ErrNotEmpty {
		t.Errorf("restored into a full store: %v", err)
	}

	dir := t.TempDir()
	restored := openDir(t, dir, mailbox.Options{})
	for cut := range int64(40) {
		err := restored.Restore(t.Context(), io.NewSectionReader(file, 0, end*cut/40))
		if err == nil {
			t.Errorf("restored a backup cut off after %d of 40", cut)
		}
	}
	if n := restored.Files(t); n != 0 {
		t.Errorf("%d files left", n)
	}
	if err := restored.Restore(t.Context(), io.NewSectionReader(file, 0, end)); err != nil {
		t.Fatal(err)
	}
	checkDelivered(t, restored, "a", map[int]bool{9: true, 10: true, 11: true})
	checkDelivered(t, restored, "b", map[int]bool{9: true, 10: true, 11: true})
	r := newTalk(t, restored, "a")
	r.want("STATUS Archive (MESSAGES)", `* STATUS "Archive" (MESSAGES 2)`, "OK")
	r.want(`LIST "" x/%`, `* LIST (\HasNoChildren) "/" "x/y"`, "OK")
	if a, b := c.do("STATUS INBOX (UIDVALIDITY)")[0], r.do("STATUS INBOX (UIDVALIDITY)")[0]; a != b {
		t.Errorf("%s became %s", a, b)
	}
	deliver(t, restored, hello, "a")
	r.do("SELECT INBOX")
	lines := r.do("FETCH 1:* (UID FLAGS)")
	if lines[0] != `* 1 FETCH (UID 1 FLAGS (\Seen kw))` || lines[3] < `* 4 FETCH (UID 1000000 ` {
		t.Errorf("%q", lines)
	}
}
