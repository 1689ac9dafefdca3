// Package mappackages turns names of Debian packages into those of Red Hat's
// family with one table for all elements, which was there before elements had
// maps of their own.
package mappackages

import (
	"context"
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/command"
)

// table is part of the contract with elements that rely on it: what is dated or
// odd in it stays.
var table = map[string]string{
	"apache2":                      "httpd",
	"arping":                       "iputils",
	"augeas-tools":                 "augeas",
	"build-essential":              "make automake gcc gcc-c++ kernel-devel",
	"default-jre":                  "java",
	"extlinux":                     "syslinux-extlinux",
	"gearman-job-server":           "gearmand",
	"grub-pc":                      "grub2-tools grub2",
	"libaio1":                      "libaio",
	"libapache2-mod-wsgi":          "mod_wsgi",
	"libc6-dev":                    "glibc-devel",
	"libffi-dev":                   "libffi-devel",
	"libldap2-dev":                 "python-ldap",
	"libmariadb-dev":               "mariadb-devel",
	"libmysql-dev":                 "mysql++-devel",
	"libmysql-java":                "mysql-connector-java",
	"libmysqlclient-dev":           "mysql-devel",
	"libpq-dev":                    "libpqxx-devel",
	"libsasl2-dev":                 "cyrus-sasl-devel",
	"libsqlite3-dev":               "libsqlite3x-devel",
	"libssl-dev":                   "openssl-devel",
	"libvirt-bin":                  "libvirt",
	"libxml2-dev":                  "libxml2-devel",
	"libxslt-dev":                  "libxslt-devel",
	"libz-dev":                     "zlib-devel",
	"linux-headers-generic":        "kernel-headers",
	"linux-image-generic":          "kernel",
	"lm-sensors":                   "lm_sensors",
	"mysql-client-5.5":             "mariadb",
	"mysql-server-5.5":             "mariadb-server",
	"nagios-plugins-basic":         "nagios-plugins-all",
	"netcat-openbsd":               "nmap-ncat",
	"nfs-common":                   "nfs-utils",
	"nfs-kernel-server":            "nfs-utils",
	"open-iscsi":                   "iscsi-initiator-utils",
	"openjdk-7-jre-headless":       "java-1.7.0-openjdk-headless",
	"openssh-client":               "openssh-clients",
	"openstack-neutron-dhcp-agent": "openstack-neutron",
	"openvswitch-common":           "openvswitch",
	"openvswitch-switch":           "openvswitch",
	"python-dev":                   "python-devel",
	"python-libvirt":               "libvirt-python",
	"python-memcache":              "python-memcached",
	"python-mysqldb":               "MySQL-python",
	"python-numpy":                 "numpy",
	"python-pyopenssl":             "pyOpenSSL",
	"python-xattr":                 "pyxattr",
	"qemu-utils":                   "qemu-img",
	"qpid-client":                  "qpid-cpp-client",
	"qpidd":                        "qpid-cpp-server",
	"snmp-mibs-downloader":         "",
	"snmpd":                        "net-snmp",
	"stunnel4":                     "stunnel",
	"tftpd-hpa":                    "tftp-server",
	"tgt":                          "scsi-target-utils",
	"vlan":                         "vconfig",
}

// Map returns what a name stands for: zero or more blank-separated packages.
// Headers, NAME-dev, are NAME-devel unless the table knows better; a name that
// means nothing here stands for itself.
func Map(name string) string {
	if packages, ok := table[name]; ok {
		return packages
	}
	if base, ok := strings.CutSuffix(name, "-dev"); ok && base != "" {
		return base + "-devel"
	}
	return name
}

// Run is the command map-packages NAME...: it prints one line per name and
// never fails.
func Run(_ context.Context, io command.IO, args []string) error {
	for _, name := range args {
		packages := Map(name)
		if packages != name {
			fmt.Fprintf(io.Err, "map-packages: %s is taken for %q: this table is deprecated, use a pkg-map file in the element\n", name, packages)
		}
		fmt.Fprintln(io.Out, packages)
	}
	return nil
}
