# Everything a tree can hold that a careless copy loses. Made in the current directory; $OUT is a directory elsewhere.
umask 022
mkdir -p plain/deep/deeper empty other read-only/in shared sticky closed acl/inherits sparse links across/a across/b owned times
printf 'one\n' >plain/one
printf 'two\n' >plain/two
: >plain/nothing
seq 1 20000 >plain/numbers
head -c 3000000 /dev/urandom >plain/large
head -c 1048576 /dev/urandom >plain/a-chunk
printf 'deep\n' >plain/deep/deeper/file
printf 'x\n' >other/x
printf 'z\n' >read-only/in/z

# Names
printf 'raw\n' >"plain/$(printf '\377\376 not utf-8')"
printf 'line\n' >"plain/$(printf 'new\nline\ttab\033escape\\back"quote%%s')"
printf 'dash\n' >'plain/-rf'
printf 'glob\n' >'plain/[a]*?!#{}'
mkdir "plain/$(printf 'dir\201\n\002')"
printf 'in\n' >"plain/$(printf 'dir\201\n\002')/$(printf '\303\050')"
long=$(printf 'n%.0s' $(seq 255))
printf 'long\n' >"plain/$long"
mkdir -p "$long/$long/$long"
printf 'deep\n' >"$long/$long/$long/$long"

# Extended attributes, ACLs, capabilities
setfattr -n user.colour -v green plain/one
setfattr -n user.empty plain/one
setfattr -n user.binary -v 0x00ff0a00 plain/two
setfattr -n user.long -v "$(printf 'v%.0s' $(seq 1500))" plain/nothing
setfattr -n trusted.overlay.opaque -v y plain/deep
setfattr -n user.of-a-directory -v 1 other
printf 'a\n' >acl/file
setfacl -m u:1234:rw,g:4321:r,u:0:r,m::rw acl/file
setfacl -d -m u:1234:rwx,g:4321:rx,o::- acl/inherits
printf 'c\n' >acl/inherits/child
mkdir acl/inherits/dir
cp /bin/true owned/capable
chown 33:33 owned/capable
setcap cap_net_bind_service,cap_chown=+ep owned/capable

# Owners and modes
printf 's\n' >owned/setuid; chown 1234:4321 owned/setuid; chmod 6755 owned/setuid
printf 's\n' >owned/setgid; chown 0:4321 owned/setgid; chmod 2711 owned/setgid
printf 'n\n' >owned/none; chmod 0 owned/none
printf 'b\n' >owned/big-uid; chown 4000000000:4000000001 owned/big-uid
chown 77:88 shared; chmod 2775 shared
chmod 1777 sticky
printf 'c\n' >closed/c; chmod 0 closed

# Holes
truncate -s 50M sparse/hole; printf 'data' | dd of=sparse/hole bs=1 seek=20000000 conv=notrunc status=none
truncate -s 3M sparse/only-a-hole
head -c 300000 /dev/zero >sparse/dense-zeros
{ head -c 65536 /dev/urandom; } >sparse/hole-at-the-end; truncate -s 5M sparse/hole-at-the-end

# What is no file
mkfifo -m 640 fifo; chown 5:6 fifo
mknod -m 660 null c 1 3
mknod -m 600 block b 7 200

# Links
ln -s nowhere links/dangling
ln -s /etc/passwd links/absolute
ln -s ../plain links/to-dir
ln -s "$OUT" links/outside
ln -s "$(printf 'raw\377\n')" links/raw
ln -s "$(printf 'l%.0s' $(seq 2000))" links/long
ln -s loop links/loop
ln -s x links/owned; chown -h 77:88 links/owned
setfattr -h -n trusted.of-a-link -v 1 links/dangling
printf 'hard\n' >across/a/hard; ln across/a/hard across/a/hard-2; ln across/a/hard across/b/hard; ln across/a/hard plain/deep/hard
head -c 2000000 /dev/urandom >across/large; ln across/large across/b/large
ln -P links/absolute links/absolute-2
ln fifo across/fifo

# Times, last, directories from the inside out
touch -d '1901-12-15 00:00:00.5 UTC' times/oldest
touch -d '1969-12-31 23:59:58.123456789 UTC' times/before-the-epoch
touch -d '1970-01-01 00:00:00 UTC' times/epoch
touch -d '2039-01-19 03:14:08.999999999 UTC' times/after-2038
touch -d '2200-01-01 UTC' times/future
touch -h -d '1960-06-01 12:00:00.25 UTC' links/dangling
touch -d '1955-11-05 UTC' times
touch -d '2100-01-01 00:00:00.000000001 UTC' empty
chmod 555 read-only/in read-only
touch -d '2001-09-09 01:46:40 UTC' . plain
