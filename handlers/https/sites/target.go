package sites

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Sound reports whether a request means the same when it is written down again,
// and leads where a path is.
func Sound(r *http.Request) bool {
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method), strings.ContainsAny(r.URL.RawQuery, " \x7f"):
		return false // on HTTP/2 they may hold a space, which would end them on HTTP/1.1
	case r.URL.IsAbs() && r.URL.Scheme != "https" && r.URL.Scheme != "http", r.URL.User != nil:
		return false
	}
	return Upright(r.URL.Path)
}

// Upright reports whether a path leads down only. "..;" is ".." to some servers
// of Java, and a backslash is a slash to some of Windows.
func Upright(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
		return false
	}
	if !strings.Contains(p, "/.") && !strings.Contains(p, "\\") {
		return true
	}
	for segment := range strings.FieldsFuncSeq(p, func(c rune) bool { return c == '/' || c == '\\' }) {
		if segment, _, _ = strings.Cut(segment, ";"); segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// EndsConnection reports whether nothing that follows a request of HTTP/1 on its
// connection is to be taken for another one. RFC 9112 section 6.1 wants this of
// a request with Transfer-Encoding and a length, of which net/http says nothing;
// and folded lines are not looked for behind an Upgrade.
func EndsConnection(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) || len(r.Header["Upgrade"]) > 0
}
