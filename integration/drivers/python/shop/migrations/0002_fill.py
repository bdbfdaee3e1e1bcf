from django.db import migrations


def fill(apps, _):
    country, customer, order = (apps.get_model("shop", name) for name in ("Country", "Customer", "Order"))
    country.objects.bulk_create([country(code="NO", name="Norway"), country(code="SE", name="Sweden")])
    first = customer.objects.create(name="name 0", country_id="NO")
    order.objects.create(customer=first, amount=0)
    # Without ids: rows of UNNEST, which return theirs in order.
    more = customer.objects.bulk_create([customer(name=f"name {n}", country_id="NO") for n in range(1, 6)])
    assert [customer.objects.get(id=one.id).name for one in more] == [f"name {n}" for n in range(1, 6)]
    order.objects.bulk_create([order(customer=one, amount=n) for n, one in enumerate(more, 1)])
    assert order.objects.filter(customer__country__name="Norway").count() == 6


def clear(apps, _):
    for name in ("Order", "Customer", "Country"):
        apps.get_model("shop", name).objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(fill, clear)]
