# Perl's DBD::Pg, over the system's libpq: it prepares on the server by itself.
use strict;
use warnings;
use utf8;
use open qw(:std :utf8);
use DBI;
use DBD::Pg qw(:pg_types);

my $table = $ENV{DRIVER_TABLE};
my ($clients, $rounds) = (8, 5);
# No two neighbours are alike, so that a part that is lost or sent twice shows.
my $long_text = join '', map { sprintf '%06dü', $_ } 0 .. (1 << 20) / 8 - 1;
my $long_bytes = pack 'C*', map { $_ * 7 % 256 } 0 .. (1 << 20) - 1;
my $odd = "Zażółć 日本語 🐘 'single' \"double\" \\back\\ %s \$1 :a\n\ttab";

sub same {
    my ($found, $expected) = map { !defined $_ ? 'undef' : ref $_ ? join '|', map { $_ // 'undef' } @$_ : $_ } @_;
    die sprintf "expected %.200s, found %.200s\n", $expected, $found if $found ne $expected;
}

sub open_db {
    my ($more, %options) = @_;
    return DBI->connect('dbi:Pg:' . ($more // ''), '', $options{password} // '', { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
}

sub fails {
    my ($sqlstate, $work) = @_;
    die "no error, expected $sqlstate\n" if eval { $work->(); 1 };
    same($DBI::state, $sqlstate);
}

sub one { my ($db, $sql, @values) = @_; return [$db->selectrow_array($sql, undef, @values)]; }

sub value {
    my ($kind, $text) = @_;
    my $db = open_db();
    my $statement = $db->prepare("SELECT (?::$kind)::text");
    for (1 .. 4) { $statement->execute($text); same($statement->fetchall_arrayref->[0], [$text]); }
    $db->disconnect;
}

my %checks = (
    tls => sub {
        same(one(open_db(), 'SELECT 1'), [1]);
        die "a stranger's certificate was trusted\n" if eval { open_db("sslrootcert=$ENV{DRIVER_STRANGER}"); 1 };
        die $@ unless $@ =~ /certificate verify failed/;
    },
    scram => sub {
        die "a wrong password was let in\n" if eval { open_db('', password => 'wrong'); 1 };
        die $@ unless $@ =~ /password authentication failed/;
    },
    numbers => sub { value('int8', '-9223372036854775808'); value('numeric', '12345678901234567890.123456789'); value('float8', '0.1'); value('uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') },
    text => sub { value('text', $odd); value('text', '') },
    bytea => sub {
        my $db = open_db();
        my $statement = $db->prepare('SELECT ?::bytea');
        my $all = pack 'C*', 0 .. 255;
        $statement->bind_param(1, $all, { pg_type => PG_BYTEA });
        for (1 .. 3) { $statement->execute; same($statement->fetchall_arrayref->[0], [$all]); }
    },
    nulls => sub { value($_, undef) for qw(int4 text bytea timestamptz) },
    arrays => sub {
        my $list = ['a', 'b c', 'q"uo\\te', '', undef, 'NULL', 'ü,{}'];
        same(one(open_db(), 'SELECT ?::text[]', $list)->[0], $list);
        same(one(open_db(), 'SELECT ?::int[]', [1, 2, -3])->[0], [1, 2, -3]);
    },
    json => sub { value('jsonb', '{"a": [1, 2.5, {"b": null}], "ü": "☃"}') },
    times => sub { value('timestamptz', '2024-02-29 23:59:59.123456+00'); value('timestamp', '2024-02-29 23:59:59.123456'); value('date', '2024-02-29') },
    large => sub {
        my $db = open_db();
        my $statement = $db->prepare('SELECT ?::text, ?::bytea');
        $statement->bind_param(1, $long_text);
        $statement->bind_param(2, $long_bytes, { pg_type => PG_BYTEA });
        for (1 .. 3) { $statement->execute; same($statement->fetchall_arrayref->[0], [$long_text, $long_bytes]); }
    },
    prepared => sub {
        my @dbs = map { open_db() } 1 .. $clients;
        my @own = map { $dbs[$_]->prepare("SELECT 'client $_', ?::int + $_") } 0 .. $#dbs;
        my @division = map { $dbs[$_]->prepare("SELECT $_ / ?::int") } 0 .. $#dbs;
        for my $turn (1 .. $rounds) {
            for my $n (0 .. $#dbs) {
                $own[$n]->execute($turn);
                same($own[$n]->fetchall_arrayref->[0], ["client $n", $turn + $n]);
                fails('22012', sub { $division[$n]->execute(0) });
                $division[$n]->execute(1);
                same($division[$n]->fetchall_arrayref->[0], [$n]);
            }
        }
        undef $own[0];
        $own[1]->execute(1);
        same($own[1]->fetchall_arrayref->[0], ['client 1', 2]);
    },
    clients => sub {
        my @children = map {
            my $n = $_;
            my $child = fork // die "fork: $!";
            if (!$child) {
                my $good = eval {
                    my $db = open_db();
                    for my $turn (0 .. $rounds - 1) {
                        $db->begin_work;
                        $db->do("INSERT INTO $table (id, name) VALUES (?, ?)", undef, 1000 + $n * $rounds + $turn, "client $n");
                        $db->commit;
                        same(one($db, "SELECT count(*) FROM $table WHERE name = ?", "client $n"), [$turn + 1]);
                    }
                    $db->disconnect;
                    1;
                };
                print $@ unless $good;
                require POSIX;
                POSIX::_exit($good ? 0 : 1);
            }
            $child;
        } 1 .. $clients;
        my $failed = 0;
        for (@children) { waitpid $_, 0; $failed++ if $?; }
        die "$failed clients failed\n" if $failed;
    },
    cursor => sub {
        my $db = open_db();
        $db->begin_work;
        $db->do('DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 10) n');
        same(one($db, 'FETCH NEXT FROM c'), [$_]) for 1 .. 10;
        $db->commit;
    },
    copy => sub {
        my $db = open_db();
        my @lines = map { 3000 + $_ . "\tcopied $_\n" } 0 .. 999;
        $db->do("COPY $table (id, name) FROM STDIN");
        $db->pg_putcopydata($_) for @lines;
        $db->pg_putcopyend;
        $db->do("COPY (SELECT id, name FROM $table WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT");
        my (@found, $line);
        push @found, $line while $db->pg_getcopydata($line) >= 0;
        same(join('', @found), join('', @lines));
        $db->do("COPY $table (id) FROM STDIN");
        $db->pg_putcopydata("not a number\n");
        fails('22P02', sub { $db->pg_putcopyend });
        same(one($db, 'SELECT 1'), [1]);
    },
    cancel => sub {
        my $db = open_db();
        $db->do('SELECT pg_sleep(20)', { pg_async => PG_ASYNC });
        select undef, undef, undef, 0.5;
        $db->pg_cancel;
        same(one($db, 'SELECT 1'), [1]) for 1 .. 20;
    },
    errors => sub {
        my $db = open_db();
        $db->begin_work;
        $db->do("INSERT INTO $table (id) VALUES (1)");
        fails('23505', sub { $db->do("INSERT INTO $table (id) VALUES (?)", undef, 1) });
        same($db->pg_error_field('constraint'), "${table}_pkey");
        fails('25P02', sub { one($db, 'SELECT 1') });
        $db->rollback;
        $db->begin_work;
        $db->do("INSERT INTO $table (id) VALUES (1)");
        $db->pg_savepoint('s');
        fails('22012', sub { $db->do('SELECT 1 / 0') });
        $db->pg_rollback_to('s');
        $db->commit;
        same(one($db, "SELECT count(*) FROM $table WHERE id < 10"), [1]);
    },
    settings => sub {
        my @dbs = map { open_db("application_name='client $_';options='-c statement_timeout=" . ($_ + 1) . "min'") } 0 .. $clients - 1;
        $dbs[$_]->do("SET TIME ZONE 'Etc/GMT+$_'; SET search_path = s$_, public") for 0 .. $#dbs;
        for (1 .. $rounds) {
            for my $n (0 .. $#dbs) {
                my $row = one($dbs[$n], q{SELECT current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout')});
                same($row, ["client $n", "Etc/GMT+$n", "s$n, public", $n + 1 . 'min']);
            }
        }
    },
    listen => sub {
        my ($listener, $sender) = (open_db(), open_db());
        $listener->do('LISTEN perl');
        $sender->do("SELECT pg_notify('perl', ?)", undef, "message $_") for 0 .. 2;
        my @found;
        for (1 .. 100) {
            while (my $message = $listener->pg_notifies) { push @found, "$message->[0] $message->[2]"; }
            last if @found == 3;
            select undef, undef, undef, 0.1;
        }
        same(\@found, [map { "perl message $_" } 0 .. 2]);
    },
    keyed => sub {
        my $db = open_db();
        my $read = $db->prepare("SELECT name, amount FROM $table WHERE id = ?");
        for my $n (0 .. 19) {
            my $key = 100 + $n;
            $db->do("INSERT INTO $table (id, name) VALUES (?, ?)", undef, $key, "name $n");
            $read->execute($key);
            same($read->fetchall_arrayref->[0], ["name $n", undef]);
            same($db->do("UPDATE $table SET amount = ? WHERE id = ?", undef, $n, $key), 1);
            $read->execute($key);
            same($read->fetchall_arrayref->[0], ["name $n", "$n.00"]);
        }
        same($db->do("DELETE FROM $table WHERE id = ?", undef, 100), 1);
    },
);
my %absent = (pipeline => 'DBD::Pg sends a query when the one before it was answered');

$| = 1;
print "version Perl DBD::Pg $DBD::Pg::VERSION\n";
for my $name (split /,/, $ENV{DRIVER_CHECKS}) {
    if (!$checks{$name}) { print "absent $name: $absent{$name}\n"; next; }
    if (eval { $checks{$name}->(); 1 }) { print "ok $name\n"; next; }
    print "failed $name: ", join(' ', split ' ', $@), "\n";
}
