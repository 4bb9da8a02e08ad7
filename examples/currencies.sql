-- Totals a currency, in whole units, and never two currencies in one sum.
-- Minor units are no cents everywhere: docs.stripe.com/currencies lists those without, and with three.
with digits as (
    select unnest(['bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'ugx', 'vnd',
        'vuv', 'xaf', 'xof', 'xpf']) as currency, 0 as places
    union all
    select unnest(['bhd', 'jod', 'kwd', 'omr', 'tnd']), 3
),
-- What customers were charged, in the currency they were charged in: `charges`, not the balance,
-- which holds what a charge became in the currency it was settled in.
charged as (
    select
        currency,
        count(*) as payments,
        sum(amount_captured) as gross,
        sum(amount_refunded) as refunded
    from stripe.charges
    where not deleted and paid
    group by currency
)
select
    charged.currency,
    payments,
    (gross / 10 ** coalesce(places, 2))::decimal(18, 3) as gross,
    (refunded / 10 ** coalesce(places, 2))::decimal(18, 3) as refunded,
    ((gross - refunded) / 10 ** coalesce(places, 2))::decimal(18, 3) as kept
from charged
left join digits on digits.currency = charged.currency
order by payments desc;
