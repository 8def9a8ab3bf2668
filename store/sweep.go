package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/store/blob"
)

// SweepAge is how old a document must be before SweepBlobs may remove it:
// far older than any transaction that is about to name it.
const SweepAge = 24 * time.Hour

// namesDocuments are the columns that hold documents' digests.
var namesDocuments = []struct{ table, column string }{
	{"scans", "result_digest"},
	{"scans", "profile_digest"},
	{"scans", "threshold_digest"},
	{"profiles", "digest"},
	{"insight_documents", "digest"},
	{"insight_quarantine", "digest"},
	{"recordings", "digest"},
}

// NamedDocuments is a query of the digests of all documents that rows name.
func NamedDocuments() string {
	var parts []string
	for _, n := range namesDocuments {
		// It is empty where there is none.
		parts = append(parts, fmt.Sprintf("SELECT %s FROM %s WHERE %[1]s LIKE 'sha256:%%'", n.column, n.table))
	}
	return strings.Join(parts, " UNION ")
}

// SweepBlobs removes the documents older than SweepAge that no row names,
// such as a crash between document and transaction leaves, and returns how
// many it removed.
func (s *Store) SweepBlobs(ctx context.Context, now time.Time) (int, error) {
	var parts []string
	for _, n := range namesDocuments {
		parts = append(parts, fmt.Sprintf("EXISTS (SELECT 1 FROM %s WHERE %s = ?)", n.table, n.column))
	}
	query := "SELECT " + strings.Join(parts, " OR ")
	n, err := s.blobs.Sweep(now.Add(-SweepAge), func(d blob.Digest) (named bool, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			return tx.QueryRow(ctx, query, slices.Repeat([]any{d}, len(parts))...).Scan(&named)
		})
		return named, err
	})
	if err != nil {
		return n, fmt.Errorf("sweep documents: %w", err)
	}
	return n, nil
}
