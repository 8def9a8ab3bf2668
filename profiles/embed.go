// Package profiles holds the profiles that Reeve ships. They are InSpec
// profiles like any other and run in InSpec and CINC as well.
package profiles

import "embed"

// FS has one folder a profile, named as the profile is.
//
//go:embed container-baseline
var FS embed.FS

// Names lists the shipped profiles.
var Names = []string{"container-baseline"}
