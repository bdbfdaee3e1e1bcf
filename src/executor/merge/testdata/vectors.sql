-- Makes order.txt, division.txt and float.txt, from this directory:
--   psql -XqAt -d postgres -f vectors.sql, then drop the empty lines that the settings leave
-- Expects PostgreSQL 15, UTF8.

\set ON_ERROR_STOP on
\o /dev/null
select setseed(0.5);
set datestyle = 'ISO';
set intervalstyle = 'postgres';
set extra_float_digits = 1;

-- type, OID, dense_rank, text in hex, binary in hex
create function pg_temp.emit(type_name text, send text, vals text[]) returns setof text
language plpgsql as $$
declare
    by_bytes text := case when type_name in ('text', 'bpchar') then 'collate "C"' else '' end;
begin
    return query execute format(
        'select concat_ws(E''\t'', %1$L, %1$L::regtype::oid, dense_rank() over (order by x %3$s), '
        'encode(convert_to(format(''%%s'', x), ''UTF8''), ''hex''), encode(%2$s(x), ''hex'')) '
        'from (select v::%1$s as x from unnest($1) v) q order by x %3$s', type_name, send, by_bytes)
    using vals;
end $$;

\o order.txt
set timezone = 'UTC';
select pg_temp.emit('bool', 'boolsend', '{t,f}');
select pg_temp.emit('int2', 'int2send', '{0,-1,32767,-32768}');
select pg_temp.emit('int4', 'int4send', '{0,-1,7,2147483647,-2147483648}');
select pg_temp.emit('int8', 'int8send', '{0,-1,10,9,9223372036854775807,-9223372036854775808}');
select pg_temp.emit('oid', 'oidsend', '{0,1,4294967295}');
select pg_temp.emit('float4', 'float4send', '{0,-0,1,-1,0.1,NaN,Infinity,-Infinity,1e-45,3.4e38,-2.5}');
select pg_temp.emit('float8', 'float8send', '{0,-0,1,-1,0.1,NaN,Infinity,-Infinity,5e-324,1.7e308,-2.5,-2.25,1e15}');
select pg_temp.emit('numeric', 'numeric_send', '{0,0.00,-0.0,1,1.0,1.00,-1,-1.5,-1.50,10,9,9.99,NaN,Infinity,-Infinity,100000,99999,10000,9999,0.0001,0.00010,0.00001,-0.0001,123456789012345678901234567890.5,123456789012345678901234567890.50,123456789012345678901234567891,1e100,-1e100,1e-50,20000,100020000,0.1234}');
select pg_temp.emit('text', 'textsend', '{"",a,A,b,"a b",ab,é,z,"a ","\\\\"}');
select pg_temp.emit('bpchar', 'bpcharsend', '{"a","a ","a  ",b,"","  "}');
select pg_temp.emit('name', 'namesend', '{a,B,b,_}');
select pg_temp.emit('"char"', 'charsend', '{a,b,A,"",é}');
select pg_temp.emit('bytea', 'byteasend', '{"\\x","\\x00","\\x0001","\\xff","\\x5c41","\\x7f"}');
select pg_temp.emit('date', 'date_send', '{infinity,-infinity,2000-01-01,1999-12-31,2024-02-29,2024-03-01,0001-01-01,0001-12-31 BC,0044-03-15 BC,4713-11-24 BC,10000-01-01,5874897-12-31,1900-02-28,1900-03-01,0005-02-28 BC,0005-02-29 BC,0005-03-01 BC}');
select pg_temp.emit('time', 'time_send', '{00:00:00,24:00:00,23:59:59.999999,12:00:00.5,12:00:00.05}');
select pg_temp.emit('timetz', 'timetz_send', '{00:00:00+00,12:00:00+00,13:00:00+01,12:00:00.5-05:30,12:00:00+15:59:59,11:00:00-01,24:00:00+00}');
select pg_temp.emit('timestamp', 'timestamp_send', '{infinity,-infinity,2000-01-01 00:00:00,1999-12-31 23:59:59.999999,2024-02-29 12:34:56.789,0044-03-15 12:00:00 BC,294276-12-31 23:59:59.999999,4713-11-24 00:00:00 BC,12024-05-06 07:08:09}');
select pg_temp.emit('timestamptz', 'timestamptz_send', '{infinity,-infinity,2000-01-01 00:00:00+00,2000-01-01 01:00:00+01,1999-12-31 23:59:59.999999+00,2024-02-29 12:34:56.789-05:30,0044-03-15 12:00:00+00 BC,12024-05-06 07:08:09+00}');
set timezone = 'Europe/Amsterdam';
select pg_temp.emit('timestamptz', 'timestamptz_send', '{1890-01-01 00:00:00+00,1999-12-31 23:59:59.999999+00,2024-07-01 00:00:00+00,0044-03-15 12:00:00+00 BC}');
set timezone = 'America/St_Johns';
select pg_temp.emit('timestamptz', 'timestamptz_send', '{1890-01-01 00:00:00+00,1999-12-31 23:59:59.999999+00,2024-07-01 00:00:00+00}');
select pg_temp.emit('interval', 'interval_send', '{0,1 day,24 hours,1 mon,30 days,31 days,-1 day,-1 day +00:00:01,1 year 2 mons -3 days 04:05:06.789,-1 year -2 mons +3 days -04:05:06.789,100:00:00.000001,-00:00:00.5,1 year,12 mons,-1 mon 2 days,178000000 years,1 day -00:00:01}');
select pg_temp.emit('uuid', 'uuid_send', '{00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,7fffffff-9c0b-4ef8-bb6d-6bb9bd380a11}');

\o division.txt
create temp table sums (s numeric, n bigint);
insert into sums values (0,3),(0.00,7),(1,3),(2,3),(-2,3),(10,3),(1,7),(22,7),(9999,10000),(10000,9999),(1e20,3),(-1e20,7),(0.0001,3),(0.00001,9999),(123456789012345678901234567890,7),(1.5,2),(2.5,2),(0.5,1),(1,1),(1,9223372036854775807),(9223372036854775807,2),('NaN',3),('Infinity',3),('-Infinity',2),(1e-30,7),(3.000000000000000000000000000000000001,2),(-0.5,10000000),(5,100000),(4999.9999,5000),(5000,4999),(1e40,3),(1e-20,1000000007),(1e-1100,3),(1e-999,7),(5e-1001,1),(-5e-1001,1);
insert into sums
    select round((random() * 2 - 1)::numeric * 10::numeric ^ (trunc(random() * 24)::int), trunc(random() * 12)::int),
           (1 + random() * 10 ^ (trunc(random() * 9)))::bigint
    from generate_series(1, 80);
select concat_ws(E'\t', s, encode(numeric_send(s), 'hex'), n, s / n, encode(numeric_send(s / n), 'hex')) from sums;

\o float.txt
create temp table f (x float8);
insert into f values (0),('-0'),(1),(-1),(0.1),(1e15),(1e14),(123456789012345),(999999999999999),(1234567890123456),(0.0001),(0.00001),(0.000123),(1e22),(1e23),(9007199254740992),(9007199254740991),(5e-324),(1.7976931348623157e308),(2.2250738585072014e-308),('NaN'),('Infinity'),('-Infinity'),(0.3),(1/3.0),(2/3.0),(100),(1e100),(-1.5e-7),(4.35),(2^54),(2^55),(2^60),(2^63),(2^64),(2^70),(8.5e22),(2e23),(4e23),(3e22),(5e22),(7e22),(1.6e24),(856031787195531.25),(2^(-24)),(2^88),(2^121);
insert into f select (random() * 2 - 1) * 10::float8 ^ (trunc(random() * 40) - 15) from generate_series(1, 40);
insert into f select (trunc(random() * 99) + 1) * 10::float8 ^ (trunc(random() * 8) + 15) from generate_series(1, 40);
select concat_ws(' ', 8, encode(float8send(x), 'hex'), x) from (select distinct on (float8send(x)) x from f) q;
create temp table g (x float4);
insert into g values (0),('-0'),('NaN'),('Infinity'),('-Infinity'),('1e-45'),(3.4028235e38),(16777216),(33554432),(33554436),(1e6),(999999),(1e5),(1e10),(8.5e9),(1234567),(0.1),(-0.0001),(0.00001234),(6.1e9),(2^(-96)),(2^87);
insert into g select (random() * 2 - 1) * 10::float8 ^ (trunc(random() * 30) - 15) from generate_series(1, 40);
insert into g select (trunc(random() * 99) + 1) * 10::float8 ^ (trunc(random() * 8) + 6) from generate_series(1, 40);
select concat_ws(' ', 4, encode(float4send(x), 'hex'), x) from (select distinct on (float4send(x)) x from g) q;
