package amqp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	rabbit "github.com/rabbitmq/amqp091-go"
)

// What Lagoon's services declare, all of them with the same arguments.
const (
	Exchange = "lagoon-insights"
	Queue    = "lagoon-insights:items"
	key      = ""
)

// dialTime bounds a connection's handshakes.
const dialTime = 15 * time.Second

// heartbeat is how often each side shows that it is there; a connection ends
// after two that didn't come.
const heartbeat = 10 * time.Second

// Config says where the broker is.
type Config struct {
	// URL is amqp://HOST:PORT/VHOST or amqps://…, without user and password.
	// The virtual host is / unless it is given; that of Lagoon is.
	URL string `yaml:"url"`
	// Username is guest unless it is given; PasswordFile and PasswordEnv name
	// where the password is, which is read for each connection.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"passwordFile"`
	PasswordEnv  string `yaml:"passwordEnv"`
	// CAFile verifies the broker instead of the system's CAs; CertFile and
	// KeyFile are the client's certificate. They are read for each connection.
	CAFile   string `yaml:"caFile"`
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// Insecure accepts any certificate of the broker.
	Insecure bool `yaml:"insecure"`
}

// Validate reports what is wrong with a configuration whose URL isn't empty.
func (c Config) Validate() error {
	u, err := url.Parse(c.URL)
	if err != nil || (u.Scheme != "amqp" && u.Scheme != "amqps") || u.Host == "" {
		return errors.New("url: it must be amqp://HOST:PORT/VHOST, or amqps://… for TLS") // c.URL may hold a password
	}
	var errs []error
	if u.User != nil {
		errs = append(errs, errors.New("url: it has a user in it; put that in username, and the password where passwordFile or passwordEnv says"))
	}
	if u.Scheme == "amqp" && (c.CAFile != "" || c.CertFile != "" || c.Insecure) {
		errs = append(errs, errors.New("caFile, certFile and insecure are for amqps://"))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("certFile and keyFile: one is missing"))
	}
	return errors.Join(errs...)
}

// dial connects and logs in. The caller closes both: closing the socket also
// ends a connection whose broker reads nothing.
func (c Config) dial() (*rabbit.Connection, net.Conn, error) {
	var socket net.Conn
	cfg := rabbit.Config{
		Heartbeat: heartbeat, Locale: "en_US",
		Properties: rabbit.Table{"product": "reeve", "connection_name": "reeve insights"},
		Dial: func(network, addr string) (_ net.Conn, err error) {
			socket, err = rabbit.DefaultDial(dialTime)(network, addr)
			return socket, err
		},
	}
	password, err := c.password()
	if err != nil {
		return nil, nil, err
	}
	user := c.Username
	if user == "" {
		user = "guest"
	}
	cfg.SASL = []rabbit.Authentication{&rabbit.PlainAuth{Username: user, Password: password}}
	if strings.HasPrefix(c.URL, "amqps:") {
		if cfg.TLSClientConfig, err = c.tls(); err != nil {
			return nil, nil, err
		}
	}
	conn, err := rabbit.DialConfig(c.URL, cfg)
	if err != nil {
		if socket != nil {
			socket.Close()
		}
		return nil, nil, fmt.Errorf("broker: %w", err)
	}
	return conn, socket, nil
}

func (c Config) password() (string, error) {
	switch {
	case c.PasswordFile != "":
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("broker.passwordFile: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	case c.PasswordEnv != "":
		return strings.TrimSpace(os.Getenv(c.PasswordEnv)), nil
	}
	return "guest", nil
}

func (c Config) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure} // the owner's choice
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("broker.caFile: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("broker.caFile %s: no certificate in it", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("broker.certFile: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// link is a connection with the channel that is used on it.
type link struct {
	conn   *rabbit.Connection
	socket net.Conn
	*rabbit.Channel
}

// open connects, and sees that the exchange and the queue are there. declare
// declares and binds them even if they are: something is wrong with them.
func (c Config) open(declare bool) (*link, error) {
	conn, socket, err := c.dial()
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, socket: socket}
	if err := l.topology(declare); err != nil {
		l.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	return l, nil
}

func (l *link) topology(declare bool) error {
	err := l.channel(func(ch *rabbit.Channel) error {
		return errors.Join(
			ch.ExchangeDeclarePassive(Exchange, rabbit.ExchangeDirect, true, false, false, false, nil),
			second(ch.QueueDeclarePassive(Queue, true, false, false, false, nil)))
	})
	var missing *rabbit.Error
	if errors.As(err, &missing) && missing.Code == rabbit.NotFound {
		declare = true
	} else if err != nil {
		return err
	}
	if declare {
		err := l.channel(func(ch *rabbit.Channel) error {
			if err := ch.ExchangeDeclare(Exchange, rabbit.ExchangeDirect, true, false, false, false, nil); err != nil {
				return err
			}
			if _, err := ch.QueueDeclare(Queue, true, false, false, false, nil); err != nil {
				return err
			}
			return ch.QueueBind(Queue, key, Exchange, false, nil)
		})
		if err != nil {
			return err
		}
	}
	l.Channel, err = l.conn.Channel()
	return err
}

// channel runs f on a channel of its own: an error of the broker's ends the
// channel that it happened on.
func (l *link) channel(f func(*rabbit.Channel) error) error {
	ch, err := l.conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	return f(ch)
}

func second[T any](_ T, err error) error { return err }

// Close ends the connection, by force if the broker doesn't answer.
func (l *link) Close() {
	stuck := time.AfterFunc(time.Second, func() { l.socket.Close() })
	defer stuck.Stop()
	l.conn.CloseDeadline(time.Now().Add(time.Second))
	l.socket.Close()
}
