// Package sendmail is what stands behind /usr/sbin/sendmail on machines that send
// their mail through a gateway: it makes a message of what programs write, submits
// it by the routes of package client, and keeps what cannot go yet in a queue.
//
// Rules.Prepare makes the message, a Sender submits it, and a Queue is a directory
// in which nothing is lost, whenever the process ends.
package sendmail
