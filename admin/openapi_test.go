package admin_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"posthorn/admin"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

const documentFile = "../docs/openapi.json"

// TestOpenAPI holds docs/openapi.json to what the operations are.
func TestOpenAPI(t *testing.T) {
	want, err := admin.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(documentFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(documentFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/openapi.json is not current, run: go generate ./admin (%v)", err)
	}
}
