package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// autocert tries a renewal that has failed again after half an hour to an hour,
// for ever. An attempt ends that the first time.
func TestFailedAttemptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := New(Config{Directory: "https://127.0.0.1:1/", Account: key})
		a, err := newAttempt(t.Context(), c, "a.example.org", key)
		if err != nil {
			t.Fatal(err)
		}
		if chain, err := a.run(); chain != nil || err == nil {
			t.Fatalf("%d certificates, %v", len(chain), err)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.gets != 3 {
			t.Errorf("autocert has read its certificate %d times", a.gets)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "x": 0, "1.5": 0, "120": 2 * time.Minute, "99999999999999": 7 * 24 * time.Hour,
		"9223372036854775808": 0, "Thu, 01 Jan 2026 13:00:00 GMT": time.Hour, "Thu, 01 Jan 2026 11:00:00 GMT": 0,
		"Fri, 01 Jan 2100 13:00:00 GMT": 7 * 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func FuzzResponse(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"status":"invalid","error":{"type":"x","detail":"y"}}`))
	f.Add(200, "application/json", []byte(`{"status":"invalid","challenges":[{"type":"x","error":null},{"error":{}}]}`))
	f.Add(429, "application/problem+json", []byte(`{"type":"urn:ietf:params:acme:error:rateLimited"}`))
	f.Add(200, "application/pem-certificate-chain", []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		var h heard
		h.response(&http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}}, body)
		if h.failure(key).Error() == "" {
			t.Error("a failure that says nothing")
		}
	})
}
