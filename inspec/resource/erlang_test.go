package resource

import "testing"

func FuzzErlang(f *testing.F) {
	f.Add("[{rabbit, [{a, [1, 2.5, 'x', \"y\"]}, {b, <<\"gu\", 101:16, 3/utf16>>}]}]. % end")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseErlang(text) })
}

func FuzzCSV(f *testing.F) {
	f.Add("a,b\n\"1\"\"2\",\n,x\n")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = csvRecords(text, ',') })
}
