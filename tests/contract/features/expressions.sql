-- One expression a line, over the columns of twin.py; the answer of each has to be DuckDB's, and its type.
i + j
i - j
i + 1
i - j - k
x + y
x - y
x + i
i - x
i * k
i * 3
x * y
x * i
-i
-x
-(i * 0.1)
i / j
x / y
i / 7
1 / i
x / 0
0 / x
i * 0.1 / 3
1 / (i * k)
1 / (-i)
1 / (i % 2)
1 / (i - i)
try(i // j)
i // 100
i // -7
try(x // y)
x // 2.5
i // 0.5
try(i % j)
i % 100
i % -7
x % y
x % 2
mod(i, 7)
mod(x, y)
i % 1.5
i * 0.1 % 0.3
i * 0.1
i * 0.1 + 0.2
i * 0.1 - j * 0.01
i * 0.1 = 0.7
i * 1.5 = j
i * 0.1 > j
i + 0.5
i * 0.25 * 0.5
i > 1.5
1.5 >= i
i <> 2.0
x > 0.1
i * 0.1 * x
0.1 + 0.2 = 0.3 AND i = 1
abs(i)
abs(x)
abs(i * -0.1)
sign(i)
sign(x)
sign(i * 0.1)
@ i + 1
floor(x)
floor(i)
floor(i * 0.1)
ceil(x)
ceil(i)
ceil(i * 0.1)
ceiling(x)
round(x)
round(x, 0)
round(x, 2)
round(x, -2)
round(i)
round(i, 2)
round(i, -1)
round(i, -2)
round(i * 0.1)
round(i * 0.01, 1)
round(i * 0.1, -1)
round(i * 0.1, 3)
round(x, 2 + 1)
trunc(x)
trunc(x, 1)
trunc(x, -2)
trunc(i)
trunc(i, -1)
trunc(i * 0.1)
trunc(i * 0.01, 1)
sqrt(x)
sqrt(i)
ln(x)
ln(i)
power(x, 2)
power(x, y)
pow(i, 2)
i ** 2
x ^ 0.5
x ^ 0
1 ** x
2 ** i
power(x, i)
power(x, 3)
power(i, sqrt(9))
power(x, power(2, 0))
power(sqrt(4), i)
power(x, log2(8))
power(1, x)
power(i * 0.1, 3)
radians(x)
degrees(x)
x * pi()
isinf(x)
isfinite(x)
isinf(i)
i = j
i == j
i <> j
i != j
i < j
i <= j
i > j
i >= j
x = y
x <> y
x < y
x <= y
x > y
x >= y
i = x
i < x
b = c
b < c
b = true
b = i
b <> (i > 0)
s = r
s <> r
s = 'abc'
'abc' <> s
s = ''
ts = us
ts <> us
ts < us
ts <= us
ts > us
ts >= us
d = e
d <= e
d = ts
d < ts
ts < d
ts < '2000-01-01'
ts >= '2000-01-01 10:00'
'2000-01-01T00:00:00Z' = ts
d = '2024-02-29'
d > '1900-01-01'
i > '5'
x > '5.5'
b = 'true'
d > date '2000-01-01'
ts <= timestamp '2000-01-01 00:00:00'
b AND c
b OR c
NOT b
b AND x > 0
x > 0 OR y > 0
NOT (b AND c)
i AND b
NOT i
x OR b
b AND NULL
b OR NULL
b AND true
b OR false
NOT (i < j)
i IS NULL
x IS NULL
s IS NOT NULL
ts IS NULL
b IS NULL
d IS NOT NULL
i ISNULL
(i + j) IS NULL
i NOTNULL
b IS TRUE
b IS NOT TRUE
b IS FALSE
b IS UNKNOWN
(x > y) IS TRUE
i IS TRUE
i IS DISTINCT FROM j
x IS NOT DISTINCT FROM y
s IS DISTINCT FROM r
ts IS NOT DISTINCT FROM us
b IS DISTINCT FROM c
i IS DISTINCT FROM NULL
i IS DISTINCT FROM x
s IS NOT DISTINCT FROM 'a'
d IS DISTINCT FROM ts
i BETWEEN 1 AND 10
i NOT BETWEEN 1 AND 10
x BETWEEN y AND 5
ts BETWEEN d AND us
i BETWEEN j AND NULL
d BETWEEN '1900-01-01' AND '2000-01-01'
i BETWEEN 1.5 AND 2.5
i IN (1, 2)
i IN (1, 2, 3, 4, 7, -7)
i NOT IN (1, 2, 3, 7)
i IN (1, NULL)
i NOT IN (1, NULL)
i IN (j, 7)
x IN (0.5, 1)
x IN (y, 1.5)
i IN (1.5, 2)
i IN (2e0, 7)
s IN ('a', 'b')
s NOT IN ('a', 'b', 'abc', 'x', '')
s IN ('a', NULL)
s IN (r, 'a')
NOT s IN ('a', 'b')
NOT s = 'a'
NOT (s IN ('a', NULL))
CASE WHEN s <> 'a' THEN 1 WHEN s IN ('b', NULL) THEN 2 END
's' = 'a' OR b
'a' IN (s, r)
'a' IN ('a', 'b') AND b
d IN ('2024-02-29', '2000-01-01')
ts IN (us, '1970-01-01')
b IN (c, true)
i IN (1, 2, 3, 4, NULL)
NULL IN (i, 2)
i IN (NULL, NULL)
CASE WHEN b THEN i WHEN x > 1 THEN j ELSE 3 END
CASE WHEN b THEN i END
CASE WHEN b THEN i ELSE x END
CASE i WHEN 1 THEN 'one' WHEN 2 THEN 'two' WHEN j THEN r ELSE s END
CASE s WHEN 'a' THEN 1.5 WHEN r THEN i END
CASE WHEN b THEN c ELSE x > 0 END
CASE WHEN b THEN d ELSE ts END
CASE WHEN b THEN i ELSE 1.25 END
CASE WHEN b THEN c ELSE i END
CASE WHEN x THEN 1 ELSE 0 END
CASE WHEN NULL THEN i ELSE j END
CASE WHEN true THEN 1 ELSE i END
CASE WHEN b THEN NULL ELSE ts END
CASE i WHEN NULL THEN 1 ELSE 2 END
CASE WHEN b THEN true WHEN c THEN false END
CASE WHEN b THEN 'a' ELSE s END
NOT CASE WHEN b THEN true WHEN c THEN false END
if(b, x, y)
if(b, i, NULL)
if(x > 0, s, 'none')
if(b, 1, x)
coalesce(x, y, 0)
coalesce(i, 1.5)
coalesce(s, r, 'none')
coalesce(ts, us)
coalesce(b, c)
coalesce(d, '2020-01-01')
coalesce(ts, d, timestamp '2020-01-01')
ifnull(i, -1)
coalesce(NULL, i)
coalesce(b, i)
coalesce(i, x)
coalesce(x, '1')
nullif(i, 7)
nullif(x, y)
nullif(s, 'a')
nullif(ts, us)
nullif(b, c)
nullif(i, 1.5)
nullif(d, '2000-01-01')
nullif(x, i)
greatest(i, j)
greatest(x, y, 0)
least(x, y, 0)
greatest(i, j, 5)
least(ts, us)
greatest(ts, us)
greatest(d, ts)
least(d, e)
greatest(b, c)
least(b, c)
greatest(i, x)
least(i * 0.1, j)
greatest(i, NULL)
try_cast(x AS bigint)
try_cast(x AS int)
try(x::tinyint)
i::double
try(i::smallint)
try(i::int)
b::int
b::double
i::boolean
x::boolean
i::varchar
b::varchar
try((i * 0.1)::int)
(i * 0.25)::bigint
try(x::decimal(10, 2))
try(x::decimal(18, 0))
try(i::decimal(5, 1))
(i * 0.01)::decimal(30, 1)
(i * 0.1)::double
b::boolean
s::varchar
ts::date
ts::timestamp
d::timestamp
d::date
try(i::utinyint)
try(x::uinteger)
try(i::usmallint)
'5'::int + i
'2000-01-01'::date = d
try(i::decimal)
'1.25'::decimal(10, 2) + i
b::decimal(4, 1)
s || r
s || 'x'
i || 'x'
s || b
'a' || s || 'b'
concat(s, i, r, 'x')
concat(s, b)
s || NULL IS NULL
s LIKE 'a%'
s LIKE '%'
s NOT LIKE 'a_c'
s LIKE '_'
s LIKE '%a%'
s LIKE ''
s LIKE 'a.c'
s LIKE '[a]'
s LIKE NULL
s LIKE 'É%'
starts_with(s, 'a')
s ^@ 'a'
prefix(s, '')
contains(s, 'b')
contains(s, '.')
ends_with(s, 'c')
suffix(s, 'é')
contains(s, '日')
NOT contains(s, 'a')
d - e
d + 1
d - 30
1 + d
d + (j % 100)::int
ts - us > INTERVAL 1 DAY
ts - d = INTERVAL '0' HOUR
epoch(ts - us)
epoch(d - ts)
epoch(-(ts - us))
epoch((ts - us) + INTERVAL 1 HOUR)
ts - us BETWEEN INTERVAL 0 DAY AND INTERVAL 1 WEEK
ts + INTERVAL 1 HOUR
ts - INTERVAL '90' MINUTE
ts + INTERVAL '1 day -2 hours'
ts + INTERVAL (k % 100) DAY
ts + to_hours(k % 100)
ts - to_minutes(k % 100)
ts + k % 100 * INTERVAL 1 MINUTE
INTERVAL 3 DAY + ts
ts + to_seconds(k % 60)
ts + to_days((k % 10)::int)
ts + to_weeks((k % 10)::int)
ts + to_milliseconds(k % 1000)
ts + to_microseconds(k % 1000)
d + INTERVAL 1 DAY
d - INTERVAL 36 HOUR
d + INTERVAL 2 WEEK
ts + INTERVAL 5 SECONDS
date_add(ts, INTERVAL 1 HOUR)
ts + (us - us)
year(ts)
month(ts)
day(ts)
dayofmonth(d)
quarter(ts)
dayofweek(ts)
weekday(d)
isodow(ts)
dayofyear(ts)
week(ts)
weekofyear(d)
isoyear(ts)
hour(ts)
hour(d)
minute(ts)
second(ts)
millisecond(ts)
microsecond(ts)
epoch(ts)
epoch(d)
epoch_ms(ts)
epoch_us(make_date(1990 + k % 7, 3, 1))
epoch_us(timestamp '2020-01-01' + INTERVAL (k) MINUTE)
epoch_ms(timestamp '1970-01-01' + k * INTERVAL 250 MICROSECOND)
epoch_ms(k)
epoch_ms(i)
dayname(ts)
monthname(d)
last_day(ts)
last_day(d)
extract(hour FROM ts)
extract(epoch FROM ts)
extract(dow FROM ts)
extract(doy FROM d)
extract(isoyear FROM d)
date_trunc('year', ts)
date_trunc('quarter', ts)
date_trunc('month', ts)
date_trunc('week', ts)
date_trunc('day', ts)
date_trunc('hour', ts)
date_trunc('minute', ts)
date_trunc('second', ts)
date_trunc('milliseconds', ts)
date_trunc('microseconds', ts)
date_trunc('month', d)
date_trunc('hour', d)
date_trunc('month', ts::date)
datetrunc('week', d)
date_diff('year', ts, us)
date_diff('quarter', ts, us)
date_diff('month', ts, us)
date_diff('week', ts, us)
date_diff('day', ts, us)
date_diff('hour', ts, us)
date_diff('minute', ts, us)
date_diff('second', ts, us)
date_diff('millisecond', ts, us)
date_diff('microsecond', d, e)
datediff('day', d, e)
date_diff('hour', d, ts)
date_diff('day', d, '2024-03-01')
date_diff('week', d, e)
date_sub('day', ts, us)
date_sub('hour', ts, us)
datesub('week', d, e)
date_sub('second', d, ts)
try(make_date(2000 + k % 30, 1 + abs(i) % 13, 1 + abs(j) % 32))
try(make_date(2024, 2, 29 + i % 2))
try(make_date(i, j, 1))
hour(ts) * 60 + minute(ts)
dayofweek(ts) IN (0, 6)
(month(d) - 1) // 3 + 1 = quarter(d)
