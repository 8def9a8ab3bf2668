package scan

import "testing"

// TestApart: a panic is the caller's, whom somebody else may recover, and not
// the end of the process.
func TestApart(t *testing.T) {
	ran := false
	apart(func() { ran = true })
	if !ran {
		t.Error("it didn't run")
	}
	defer func() {
		if got := recover(); got != "boom" {
			t.Errorf("recovered %v", got)
		}
	}()
	apart(func() { panic("boom") })
	t.Error("the panic is lost")
}
