package cacheurl

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
)

// fetchFTP fetches anonymously, or with the URL's user, in extended passive
// mode (RFC 959, RFC 2428). A file whose modification time (RFC 3659, MDTM) is
// the one noted is not fetched again.
func (d *download) fetchFTP(ctx context.Context, tmp *os.File, known validators) (fetched, error) {
	port := d.url.Port()
	if port == "" {
		port = "21"
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(d.url.Hostname(), port))
	if err != nil {
		return fetched{}, d.networkError(err, exitConnect)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	text := textproto.NewConn(&impatient{conn, d.stall})
	if _, _, err := text.ReadResponse(220); err != nil {
		return fetched{}, d.networkError(err, exitReceive)
	}
	user, password := "anonymous", "dib@"
	if u := d.url.User; u != nil {
		user = u.Username()
		password, _ = u.Password()
	}
	file := strings.TrimPrefix(d.url.Path, "/")
	if strings.ContainsAny(file+user+password, "\r\n") {
		return fetched{}, cmdline.Exitf(exitURL, "cannot download %s: line breaks in the address", d.url.Redacted())
	}
	code, message, err := ftpCommand(text, "USER "+user)
	if err == nil && code == 331 {
		code, message, err = ftpCommand(text, "PASS "+password)
	}
	if err != nil || code != 230 {
		return fetched{}, d.ftpError("log in", code, message, err)
	}
	if code, message, err := ftpCommand(text, "TYPE I"); err != nil || code != 200 {
		return fetched{}, d.ftpError("choose binary mode", code, message, err)
	}
	v := validators{URL: d.url.String()}
	if code, message, err := ftpCommand(text, "MDTM "+file); err != nil {
		return fetched{}, d.networkError(err, exitReceive)
	} else if code == 213 {
		v.LastModified = message
		if v.LastModified == known.LastModified {
			return fetched{unchanged: true}, nil
		}
	}
	if err := d.retrieve(ctx, text, file, tmp); err != nil {
		return fetched{}, err
	}
	return fetched{validators: v}, nil
}

// retrieve transfers the file over a data connection.
func (d *download) retrieve(ctx context.Context, text *textproto.Conn, file string, tmp io.Writer) error {
	code, message, err := ftpCommand(text, "EPSV")
	if err != nil || code != 229 {
		return d.ftpError("enter passive mode", code, message, err)
	}
	// 229 Entering Extended Passive Mode (|||6446|)
	_, port, _ := strings.Cut(message, "(|||")
	port, _, _ = strings.Cut(port, "|)")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return d.ftpError("enter passive mode", code, message, nil)
	}
	data, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(d.url.Hostname(), port))
	if err != nil {
		return d.networkError(err, exitConnect)
	}
	defer data.Close()
	stop := context.AfterFunc(ctx, func() { data.Close() })
	defer stop()
	code, message, err = ftpCommand(text, "RETR "+file)
	if err == nil && code == 550 {
		return cmdline.Exitf(exitNotFound, "cannot download %s: not found (550 %s)", d.url.Redacted(), message)
	}
	if err != nil || code/100 != 1 {
		return d.ftpError("fetch the file", code, message, err)
	}
	if _, err := io.Copy(tmp, &impatient{data, d.stall}); err != nil {
		return d.networkError(err, exitReceive)
	}
	if err := data.Close(); err != nil {
		return d.networkError(err, exitReceive)
	}
	if code, message, err = text.ReadResponse(2); err != nil {
		return d.ftpError("complete the transfer", code, message, nil)
	}
	return nil
}

// impatient is a connection whose every read must give something within a limit.
type impatient struct {
	net.Conn
	limit time.Duration
}

func (c *impatient) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func ftpCommand(text *textproto.Conn, line string) (int, string, error) {
	if err := text.PrintfLine("%s", line); err != nil {
		return 0, "", err
	}
	return text.ReadResponse(0)
}

func (d *download) ftpError(what string, code int, message string, err error) error {
	if err != nil {
		return d.networkError(err, exitReceive)
	}
	failed := &cmdline.ExitError{Code: 1, Err: fmt.Errorf("cannot download %s: cannot %s: server answered %d %s", d.url.Redacted(), what, code, message)}
	if code/100 == 4 {
		return &transient{failed}
	}
	return failed
}
