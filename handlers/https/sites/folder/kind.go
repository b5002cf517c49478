package folder

import "strings"

// kind is what a file's extension says of it.
type kind struct {
	contentType  []string
	compressible bool
}

// kinds does not depend on the machine. What is not here is a file to download.
var kinds = makeKinds(map[string]string{
	".html .htm":           "text/html; charset=utf-8",
	".xhtml":               "application/xhtml+xml",
	".css":                 "text/css; charset=utf-8",
	".js .mjs":             "text/javascript; charset=utf-8",
	".json .map":           "application/json",
	".jsonld":              "application/ld+json",
	".webmanifest":         "application/manifest+json",
	".txt .text .log .asc": "text/plain; charset=utf-8",
	".md":                  "text/markdown; charset=utf-8",
	".csv":                 "text/csv; charset=utf-8",
	".ics":                 "text/calendar; charset=utf-8",
	".vcf":                 "text/vcard; charset=utf-8",
	".xml .xsl":            "application/xml",
	".rss":                 "application/rss+xml",
	".atom":                "application/atom+xml",
	".svg":                 "image/svg+xml",
	".wasm":                "application/wasm",
	".ttf":                 "font/ttf",
	".otf":                 "font/otf",
	".ico":                 "image/vnd.microsoft.icon",
	".bmp":                 "image/bmp",
}, map[string]string{
	".png":          "image/png",
	".jpg .jpeg":    "image/jpeg",
	".gif":          "image/gif",
	".webp":         "image/webp",
	".avif":         "image/avif",
	".woff":         "font/woff",
	".woff2":        "font/woff2",
	".mp3":          "audio/mpeg",
	".m4a":          "audio/mp4",
	".ogg .oga":     "audio/ogg",
	".opus":         "audio/ogg",
	".flac":         "audio/flac",
	".wav":          "audio/wav",
	".mp4 .m4v":     "video/mp4",
	".webm":         "video/webm",
	".ogv":          "video/ogg",
	".pdf":          "application/pdf",
	".epub":         "application/epub+zip",
	".zip":          "application/zip",
	".gz .tgz":      "application/gzip",
	".br .bin .iso": "application/octet-stream",
	".apk":          "application/vnd.android.package-archive",
})

var otherKind = kind{contentType: []string{"application/octet-stream"}}

func makeKinds(compressible, compressed map[string]string) map[string]kind {
	all := make(map[string]kind)
	for i, table := range []map[string]string{compressible, compressed} {
		for extensions, contentType := range table {
			for ext := range strings.FieldsSeq(extensions) {
				all[ext] = kind{[]string{contentType}, i == 0}
			}
		}
	}
	return all
}

func kindOf(ext string) kind {
	if k, ok := kinds[strings.ToLower(ext)]; ok {
		return k
	}
	return otherKind
}
