-- The list for a dunning tool: invoices that a payment failed for, sent invoices that are overdue, and
-- cards that expire before the next renewal. Amounts are in minor units of `currency`.
-- `set variable today = now()` asks for today; else it is the time of the newest event.
with clock as (
    select coalesce(getvariable('today')::timestamptz at time zone 'UTC', max(created)) as today
    from stripe.events
),
-- The last failed charge of each invoice. An invoice payment names the payment intent of the charges,
-- or a charge without a payment intent.
declined as (
    select
        payments.invoice,
        coalesce(outcome->>'reason', failure_code) as decline_code,
        payment_method_details->'card' as card
    from stripe.invoice_payments as payments
    join stripe.charges
        on coalesce(charges.payment_intent, charges.id)
            = coalesce(payment->>'payment_intent', payment->>'charge')
    where charges.status = 'failed' and not charges.deleted and not payments.deleted
    qualify
        row_number() over (
            partition by payments.invoice order by charges.created desc, charges.id
        ) = 1
),
-- A sent invoice without an attempt is left to its customer, until it is due.
owed as (
    select
        case when attempt_count > 0 then 'payment failed' else 'invoice overdue' end as why,
        customer,
        amount_remaining::bigint as amount,
        currency,
        parent->'subscription_details'->>'subscription' as subscription,
        id as invoice,
        attempt_count::bigint as attempts,
        (case when attempt_count > 0 then next_payment_attempt else due_date end)::date as next_on,
        decline_code,
        card,
        hosted_invoice_url as pay_at
    from stripe.invoices
    left join declined on declined.invoice = invoices.id
    cross join clock
    where not deleted
        and status = 'open' and amount_remaining > 0
        and (attempt_count > 0 or (collection_method = 'send_invoice' and due_date < today))
),
-- As in renewals.sql: what ends first is billed first, and the amount is not always known.
billed as (
    select
        items.subscription,
        items.current_period_end as renews_at,
        case
            when bool_and(coalesce(
                (price->>'currency') = subscriptions.currency
                and (price->>'unit_amount') is not null
                and (price->>'transform_quantity') is null
                and quantity is not null,
                false
            ))
            then sum((price->>'unit_amount')::bigint * quantity)::bigint
        end as amount
    from stripe.subscription_items as items
    join stripe.subscriptions on subscriptions.id = items.subscription
    where not items.deleted
    group by items.subscription, items.current_period_end
    qualify row_number() over (partition by items.subscription order by renews_at) = 1
),
expiring as (
    select
        'card expires' as why,
        subscriptions.customer,
        billed.amount,
        subscriptions.currency,
        subscriptions.id as subscription,
        null as invoice,
        null as attempts,
        renews_at::date as next_on,
        null as decline_code,
        card,
        null as pay_at
    from stripe.subscriptions
    join billed on billed.subscription = subscriptions.id
    join stripe.customers on customers.id = subscriptions.customer and not customers.deleted
    join stripe.payment_methods as methods
        on methods.id = coalesce(
            subscriptions.default_payment_method,
            customers.invoice_settings->>'default_payment_method'
        )
        and not methods.deleted and methods.type = 'card'
    cross join clock
    where not subscriptions.deleted
        and status in ('active', 'trialing')
        and collection_method = 'charge_automatically'
        and pause_collection is null
        and not cancel_at_period_end
        and (cancel_at is null or cancel_at > renews_at)
        and renews_at >= today and renews_at < today + interval 60 day
        -- A card is good to the end of its month.
        and renews_at >= make_date((card->>'exp_year')::int, (card->>'exp_month')::int, 1)
            + interval 1 month
)
select
    due.why,
    customers.email,
    due.customer,
    due.amount,
    due.currency,
    due.subscription,
    due.invoice,
    due.attempts,
    due.next_on,
    due.decline_code,
    card->>'brand' as card,
    card->>'last4' as last4,
    strftime(make_date((card->>'exp_year')::int, (card->>'exp_month')::int, 1), '%Y-%m') as expires,
    due.pay_at
from (select * from owed union all select * from expiring) as due
join stripe.customers on customers.id = due.customer and not customers.deleted
order by due.why desc, due.next_on, due.customer, due.invoice, due.subscription;
