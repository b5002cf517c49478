package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"posthorn/admin"
)

// Who has guessed too often is shown, and let go; by a key, as passwords from there
// are refused.
func TestConsoleBlocks(t *testing.T) {
	c := newConsole(t, "")
	password := c.account(ann)
	login := func(password string) error { return imapClient(c.dial("", "imap")).Login(ann, password).Wait() }
	p := c.byKey()
	c.opened(p, "blocks")
	p.Wants("Nobody is blocked.")
	for range 12 {
		if login(password+"x") == nil {
			t.Fatal("a wrong password logs in")
		}
	}
	p.Wants("127.0.0.1")
	p.Inspect("console-blocked")
	if login(password) == nil {
		t.Error("a blocked source logs in")
	}
	c.opened(p, "")
	p.Wants("1 source is blocked")
	p.Inspect("console-attention")
	p.Follow("#attention a")
	p.Wants("127.0.0.1")
	p.Press("127.0.0.1", "Unblock")
	p.Wants("127.0.0.1 is not blocked any more.", "Nobody is blocked.")
	if err := login(password); err != nil {
		t.Errorf("let go: %v", err)
	}

	// Networks have a slash in them.
	config := c.tlsConfig(c.olga, "http/1.1")
	config.ServerName = adminHost
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	req, err := http.NewRequest("DELETE", "https://"+c.shared+"/admin/api/v1/blocks/2001:db8::%2F64", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = adminHost
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct{ Code string }
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || problem.Code != admin.CodeNoBlock {
		t.Errorf("status %d, %q, %v", resp.StatusCode, problem.Code, err)
	}
}
