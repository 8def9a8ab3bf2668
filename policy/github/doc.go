// Package github checks repositories on GitHub by Allstar's nine policies, as
// Allstar's own files configure them (https://github.com/ossf/allstar).
//
// A Runner makes cycles. A whole cycle reads an organisation's files, lists its
// repositories, and judges each, several at once, by the policies that are on for
// it; a cycle about one repository follows a webhook. Each is a policy.Run: it says
// how many results it should have, and one that was cut short shows. What is to be
// checked next is a row in the database (Work), leased by one hub at a time, so
// neither a webhook that was answered nor a cycle is lost with a hub.
//
// A result is recorded with its alerts in one transaction. One that can't be had,
// because GitHub answers with an error or the App lacks a permission, is unknown
// with the reason, and is nobody else's: other policies and repositories go on. A
// repository whose own files can't be read has all its results unknown.
//
// Nothing that is wrong in a file turns a check off. What can't be understood is
// reported with file, layer, line and key, and the rest of the file holds; a file
// that can't be parsed holds as it last could be, or else counts as one that asks
// to be checked. An organisation whose files can't be fetched has no cycle until
// they can.
//
// Requests go through three transports. remembered answers from memory, which is
// kept in the database by repository and organisation: an answer is asked for again
// by its validator, which costs nothing of GitHub's limit if it still holds, and
// what depends on a commit alone is asked for once. limits keeps to GitHub's
// primary and secondary limits and repeats what may be repeated. credential adds
// the token, for the API's own host and no other.
//
// What GitHub and the repositories say is untrusted: texts, lists, archives and
// patterns have bounds, and workflows are read, never run.
package github
