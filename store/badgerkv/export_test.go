package badgerkv

// SetReserve changes how much space must be free for an update of db, and
// returns what it was.
func (db *DB) SetReserve(bytes uint64) (old uint64) {
	old, db.home.reserve = db.home.reserve, bytes
	return old
}

// Dir is where db is.
func (db *DB) Dir() string { return db.home.dir }
