package https_test

import (
	"io"
	"strings"
	"testing"
)

// TestNotesQuoteNobody: what a lost client sends, such as a password for
// another protocol, stays out of net/http's notes.
func TestNotesQuoteNobody(t *testing.T) {
	g := start(t, nil)
	c := g.dial(serverName, "h2")
	if _, err := io.WriteString(c, "a LOGIN b correct-horse-battery\r\n"); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, c)
	g.stop()
	log := g.log.String()
	if !strings.Contains(log, "reading preface from client") {
		t.Errorf("net/http's note is not there: %s", log)
	}
	if strings.Contains(log, "correct") {
		t.Errorf("it quotes the client: %s", log)
	}
}
