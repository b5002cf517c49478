package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"posthorn/client"
)

// The example says every key, and can be used.
func TestClientExample(t *testing.T) {
	var c ClientConfig
	if err := loadClientConfig("../../examples/client.yaml", &c); err != nil {
		t.Fatal(err)
	}
	library, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.New(library); err != nil {
		t.Error(err)
	}
	if !slices.Equal(library.Routes, client.DefaultRoutes()) || library.Timeout != 10*time.Second || library.Proxy != nil {
		t.Errorf("%+v", library)
	}
	text, err := os.ReadFile("../../examples/client.yaml")
	if err != nil {
		t.Fatal(err)
	}
	root, _ := parseTree(text)
	var got map[string]any
	if err := root.Decode(&got); err != nil || len(got) != 19 {
		t.Errorf("%d keys, %v", len(got), err)
	}
}

// clientFlags returns what a file and flags make.
func clientFlags(t *testing.T, text string, args ...string) (ClientConfig, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var c ClientConfig
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.flags(f)
	c.loginFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c, c.under(file, f)
}

func TestClientFlagsOverFile(t *testing.T) {
	c, err := clientFlags(t, "host: a.example\nports: {shared: 1}\nroutes: [web]\nca: ca.pem\nresolver: 9.9.9.9\nuser: a@a.example\nmemory: m.json\n",
		"--port", "2", "--identity", "me.pem", "--route", "alpn,name", "--web-path", "/x")
	if err != nil || c.Host != "a.example" || c.Ports.Shared != 2 || !slices.Equal(c.Routes, []string{"alpn", "name"}) ||
		c.WebPath != "/x" || !filepath.IsAbs(c.CA) || c.Resolver != "9.9.9.9" ||
		c.Identity != "me.pem" || c.User != "a@a.example" || !filepath.IsAbs(c.Memory) {
		t.Errorf("%+v, %v", c, err)
	}
	var mistakes *MistakesError
	if _, err := clientFlags(t, "host: a.example\npassword: secret\nroute: 3\n"); !errors.As(err, &mistakes) || len(mistakes.Mistakes) != 2 || mistakes.Mistakes[0].Line != 2 {
		t.Errorf("%v", err)
	}
}

func TestClientConfigRefuses(t *testing.T) {
	for name, c := range map[string]ClientConfig{
		"a pin":      {Host: "x", Pins: []string{"sha1:x"}},
		"a proxy":    {Host: "x", Proxy: "ftp://user:secret@x"},
		"ECH":        {Host: "x", ECH: "?"},
		"a CA":       {Host: "x", CA: "config.go"},
		"no file":    {Host: "x", Identity: "none.pem"},
		"a password": {Host: "x", PasswordFile: "none"},
		"a key":      {Host: "x", Identity: "config.go"},
	} {
		if _, err := c.client(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A probe says what is to be said, as JSON too.
func TestProbeJSON(t *testing.T) {
	code, stdout, stderr := runCLI(t, "", "probe", "localhost", "--json", "--proxy", "none", "--port", "1", "--imaps-port", "1",
		"--submissions-port", "1", "--timeout", "5s")
	var r client.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitError {
		t.Fatalf("%d, %v, %s", code, err, stderr)
	}
	if len(r.Routes) != 2*len(client.AllRoutes()) || r.Reachable() || r.ALPN.State != client.ALPNUnknown || r.Certificate != nil {
		t.Errorf("%+v", r)
	}
	for _, f := range r.Routes {
		if want := client.Refused; f.Class != want && f.Class != client.NoECH || f.Reason == "" {
			t.Errorf("%+v", f)
		}
	}
}
