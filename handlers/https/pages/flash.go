package pages

import (
	"encoding/base64"
	"encoding/json"
	"net/http"

	"golang.org/x/text/language"
)

// Flash is a message on the next page that the visitor sees.
type Flash struct {
	Kind Kind `json:"kind"`
	Text Text `json:"text"`
}

// Kind says how a message is meant.
type Kind string

const (
	Done    Kind = "done"
	Info    Kind = "info"
	Warning Kind = "warning"
	Failed  Kind = "error"
)

// flashCookie keeps messages in the browser: they are the visitor's own, tell
// nothing that the page before does not, and name texts of the catalogue.
const (
	flashCookie = "__Host-posthorn-flash"
	maxFlash    = 2 << 10 // of the cookie
)

// Flash leaves messages for the next page. Those before are replaced. What is too
// long for a cookie is not kept.
func (p *Pages) Flash(w http.ResponseWriter, messages ...Flash) {
	b, err := json.Marshal(messages)
	value := base64.RawURLEncoding.EncodeToString(b)
	if err != nil || len(value) > maxFlash {
		p.log.Warn().Err(err).Int("length", len(value)).Msg("message for the next page is lost")
		return
	}
	http.SetCookie(w, newFlashCookie(value, 60))
}

func newFlashCookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: flashCookie, Value: value, Path: "/", MaxAge: maxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// takeFlash returns the messages that were left, and removes them.
func takeFlash(w http.ResponseWriter, r *http.Request, texts *catalogue) (messages []Flash) {
	c, err := r.Cookie(flashCookie)
	if err != nil {
		return nil
	}
	http.SetCookie(w, newFlashCookie("", -1))
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(c.Value) > maxFlash || json.Unmarshal(b, &messages) != nil {
		return nil
	}
	known := messages[:0]
	for _, m := range messages {
		_, err := texts.text(language.English, m.Text, escape)
		if err == nil && (m.Kind == Done || m.Kind == Info || m.Kind == Warning || m.Kind == Failed) {
			known = append(known, m)
		}
	}
	return known
}
