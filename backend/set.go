package backend

// Set is the Backend that leads every account to its own: the one that its
// record names, else that of its primary address's domain, else Default. Its
// fields are set before use.
type Set struct {
	Backends map[string]Backend // by name
	Domains  map[string]string  // names by domain, in lower case
	Default  string
}
